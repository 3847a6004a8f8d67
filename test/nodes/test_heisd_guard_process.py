"""Node and guard as processes: killed, hung, ended; the guard small and without PyTorch."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from heisd_ros.msg import ArmStatus
from std_msgs.msg import String
from std_srvs.srv import Trigger
from support.cell import LIMITS, ZERO, Cell
from support.guarded import BY_STALLS, SETTINGS, Line
from support.process import launch

from heisd_ros.nodes import node_limits
from heisd_ros.nodes.heisd_guard import HeisdGuard

PATIENT = {
    "guard.command_timeout_sec": 0.25,
    "command.controller_timeout_sec": 0.35,
    "guard.max_stamp_age_sec": 0.4,
    "input.joint_state_timeout_sec": 0.5,
    "input.follow_distance_m": 0.0,
    "input.frozen_joint_sec": 0.0,
}
MOST_MB = 250
BEHIND = [
    "--ros-args",
    *("-r", "~/input/twist:=/vla_node/output/twist"),
    *("-r", "~/input/joint_states:=/vla_node/input/joint_states"),
    *("-r", "~/input/status:=/vla_node/status"),
    *("-r", "~/node/estop:=/vla_node/estop"),
    *("-r", "~/node/get_parameters:=/vla_node/get_parameters"),
]


def underscored(settings):
    return {name.replace(".", "__"): value for name, value in settings.items()}


@pytest.fixture
def ended():
    processes = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def test_a_node_that_hangs_or_is_killed_is_stopped_and_moves_nothing_by_itself_again(
    world, ended, monkeypatch
):
    monkeypatch.setattr(node_limits, "PERIOD_SEC", 0.3)
    settings = {**LIMITS, **PATIENT, "command.max_action_age_sec": 5.0, "joints.slow_rad": 0.2}
    moved = ["--ros-args", "-r", "/vla_node/output/twist:=/heisd_guard/output/twist"]
    cell = world.add(Cell, views=("image",), cli_args=moved)
    loose = {**settings, "command.max_angular_speed": 0.6}
    world.add(HeisdGuard, parameters=loose, cli_args=BEHIND)
    statuses = []
    cell.create_subscription(ArmStatus, "/heisd_guard/status", statuses.append, 10)
    given = {**settings, "autostart": "true"}
    node = launch(world, "support.steady_vla_node", **underscored(given))
    ended.append(node)
    until = lambda condition, what: world.spin_until(condition, what, cell.publish)  # noqa: E731
    until(lambda: statuses and statuses[-1].code == ArmStatus.NO_WARNING, "commands from rest")
    # Before the arm moves: a stall of the machine would trip the guard then.
    words = "limits: 'command.max_angular_speed' is 0.5 in the node; accepted: 0.6"
    until(lambda: cell.named(words), "a warning")
    cell.instruction.publish(String(data="go"))
    until(lambda: cell.heard[-1].twist != ZERO, "motion")

    node.send_signal(signal.SIGSTOP)

    def trip():
        reason = statuses[-1].message.split(":")[0]
        return statuses[-1].code == ArmStatus.HELD and reason in BY_STALLS

    until(trip, "a trip")
    until(lambda: cell.heard[-1].twist == ZERO and not cell.moves(), "a stand")
    node.send_signal(signal.SIGCONT)
    until(lambda: cell.telemetry and cell.telemetry[-1].reason.startswith("estop"), "its stop")
    assert "~/reset_estop first" in world.call(Trigger, "/heisd_guard/reset").message
    assert world.call(Trigger, "/vla_node/reset_estop").success
    until(lambda: world.call(Trigger, "/heisd_guard/reset").success, "a reset")
    world.spin_for(0.3, cell.publish)
    assert cell.heard[-1].twist == ZERO, "nothing moves before an instruction"

    cell.instruction.publish(String(data="go on"))
    until(lambda: cell.heard[-1].twist != ZERO, "motion")
    node.kill()
    until(trip, "a trip")
    until(lambda: cell.heard[-1].twist == ZERO and not cell.moves(), "a stand")


def test_a_guard_is_small_and_ramps_the_arm_down_when_it_ends(world, ended):
    line = world.add(Line)
    guard = launch(world, "heisd_ros.nodes.heisd_guard", **underscored({**SETTINGS, **PATIENT}))
    ended.append(guard)
    world.spin_until(line.passes, "commands that are passed")
    line.driver.goal = np.array([0.0, 0.0, 0.05, 0.0, 0.0, 0.0])
    world.spin_until(lambda: line.arm.heard and np.any(line.arm.heard[-1][2]), "motion")
    process = Path(f"/proc/{guard.pid}")
    assert "torch" not in (process / "maps").read_text()
    used = int((process / "status").read_text().split("VmRSS:")[1].split()[0]) / 1024
    assert used < MOST_MB, used
    guard.send_signal(signal.SIGTERM)
    world.spin_until(lambda: guard.poll() is not None, "the end")
    world.spin_for(0.1)
    assert guard.returncode == 0 and line.arm.stands()
    line.arm.check()

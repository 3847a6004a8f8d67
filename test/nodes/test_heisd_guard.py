"""The guard over DDS: good commands pass, and whatever goes wrong stops the arm, by name."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from heisd_ros.msg import ArmStatus
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Float64
from std_srvs.srv import Trigger
from support.guarded import BY_STALLS, SETTINGS, Line, nan, shaking
from support.stalls import Stalls

from heisd_ros.nodes import heisd_guard
from heisd_ros.nodes.heisd_guard import HeisdGuard

STOP_SEC = 0.5
PATIENT = {
    **SETTINGS,
    "guard.command_timeout_sec": 0.25,
    "command.controller_timeout_sec": 0.35,
    "guard.max_stamp_age_sec": 0.4,
    "input.joint_state_timeout_sec": 0.5,
}
"""A busy machine stalls for as long as the timeouts of a real arm are."""


class Guarded:
    """A guard in the middle of a line."""

    def __init__(self, world, kind):
        self.world, self.line = world, world.add(Line, kind)
        self.guard = world.add(HeisdGuard, parameters={**PATIENT, "command.interface": kind})
        self._joints_of, self._sign = self.line.joints_of, 1.0

    def stalled(self):
        """Whether the guard has tripped for what a stall of the machine is to it."""
        newest = self.line.statuses[-1]
        return newest.code == ArmStatus.HELD and newest.message.split(":")[0] in BY_STALLS

    def moves(self, condition=lambda: True, what="motion", doing=None):
        """The arm is moved by commands that are passed, there and back in turn.

        Until a condition holds; where a stall of the machine trips the guard first, once more.
        """
        line = self.line
        for _ in range(4):
            if line.arm.stands() or not line.arm.heard:
                line.driver.rest_at(line.arm.q)
            self.world.spin_until(line.passes, "commands that are passed")
            heard, self._sign = len(line.arm.heard), -self._sign
            line.driver.goal = self._sign * np.array([0.07, 0.03, -0.02, 0.0, 0.0, 0.2])
            moved = lambda n=heard + 10: len(line.arm.heard) > n and condition()  # noqa: E731
            self.world.spin_until(lambda done=moved: done() or self.stalled(), what, doing)
            if moved() and not line.arm.stands():
                return
            self.world.spin_until(self.stalled, "a stall, since the arm stands")
            self.mends()
        raise AssertionError(what)

    def trips(self, reason, spoil, *arguments):
        """Something is spoilt while the arm moves: it stands, and the status names the reason.

        Where a stall of the machine is what trips first, once more.
        """
        line = self.line
        for _ in range(4):
            self.moves()
            spoil(*arguments)
            since, stalls = time.monotonic(), Stalls()
            self.world.spin_until(lambda: line.statuses[-1].code > 8, reason)
            self.world.spin_until(line.arm.stands, "a stand")
            if line.said(reason):
                break
            assert line.statuses[-1].message.split(":")[0] in BY_STALLS, line.statuses[-1]
            self.mends()
        assert line.said(reason) and stalls.without(since, time.monotonic()) < 2.0 * STOP_SEC
        code = ArmStatus.ESTOP if reason == "estop" else ArmStatus.HELD
        assert line.statuses[-1].code == code

    def bend(self, change):
        self.line.bend = change

    def blind(self):
        self.line.joints_of = lambda q, stamp: None

    def reset(self):
        return self.world.call(Trigger, "/heisd_guard/reset")

    def mends(self):
        """What was broken is whole; the reset is refused until commands move nothing."""
        line = self.line
        line.bend, line.joints_of = (lambda message: message), self._joints_of
        line.driver.goal = np.array([0.0, 0.0, 0.05, 0.0, 0.0, 0.0])
        self.world.spin_for(0.2)
        answer = self.reset()
        assert not answer.success and "commands still move the arm" in answer.message
        line.driver.rest_at(line.arm.q)
        self.world.spin_until(lambda: self.reset().success, "a reset")
        assert line.arm.stands()

    def diagnosed(self, level, words):
        """Whether diagnostics have a status of the guard."""
        statuses = [each for report in self.line.reports for each in report.status]
        return any(each.level == level and each.message.startswith(words) for each in statuses)


def test_a_stream_of_twists_is_stopped_by_name_and_latched(world):
    cell = Guarded(world, "twist")
    line, node = cell.line, cell.line.node_status
    cell.trips("bad_command", cell.bend, nan)
    world.spin_until(lambda: cell.diagnosed(b"\x02", "tripped: bad_command"), "the diagnostic")
    cell.mends()
    cell.trips("no_commands", cell.bend, lambda message: None)
    cell.mends()
    cell.trips("stale_joint_states", cell.blind)
    assert "stale_joint_states" in cell.reset().message
    cell.mends()
    cell.trips("estop", lambda: world.call(Trigger, "/heisd_guard/estop"))
    cell.mends()
    cell.trips("estop", node.publish, ArmStatus(code=ArmStatus.ESTOP))
    assert "~/reset_estop" in cell.reset().message
    node.publish(ArmStatus(code=ArmStatus.HELD))
    cell.mends()
    line.arm.check()


def test_a_stream_of_target_poses_is_stopped_and_the_last_target_held(world):
    cell = Guarded(world, "pose")
    line = cell.line
    # Again and again, since a late target may have moved further.
    for reason, change in (("jump", shaking()), ("no_commands", lambda message: None)):
        cell.trips(reason, cell.bend, change)
        held = line.arm.heard[-1][2][0]
        world.spin_for(0.1)
        assert np.abs(line.arm.heard[-1][2][0] - held).max() < 1e-9
        cell.mends()
    line.arm.check()


def test_openings_of_the_gripper_pass_with_the_commands_of_the_arm_alone(world):
    cell, heard = Guarded(world, "twist"), []
    line, topic = cell.line, "/heisd_guard/input/gripper"
    fingers = line.create_publisher(Float64, topic, 1)
    line.create_subscription(
        Float64, "/heisd_guard/output/gripper", lambda message: heard.append(message.data), 10
    )
    opens, closes = (partial(fingers.publish, Float64(data=metres)) for metres in (0.08, 0.0))
    cell.moves(lambda: 0.08 in heard, "an opening", opens)
    cell.trips("bad_gripper", fingers.publish, Float64(data=0.5))
    assert "opening is 0.5 m; accepted: 0 to 0.08" in line.statuses[-1].message
    closes()
    world.spin_for(0.3)
    assert set(heard) == {0.08}
    cell.mends()
    cell.moves(lambda: 0.0 in heard, "a closing", closes)
    other = world.add(Node, "other_fingers")

    def join():
        # Not before the arm moves: any opening that is still under way trips too.
        other.create_publisher(Float64, topic, 1)
        world.spin_until(lambda: cell.guard.count_publishers(topic) == 2, "both")
        opens()

    cell.trips("bad_gripper", join)
    assert "/other_fingers" in line.statuses[-1].message
    answer = cell.reset()
    assert not answer.success and "/other_fingers" in answer.message


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_second_publisher_on_either_side_trips_and_is_named(world, side):
    cell, teleop = Guarded(world, "twist"), world.add(Node, "teleop")
    topic = f"/heisd_guard/{side}/twist"
    cell.trips("rival_commands", teleop.create_publisher, TwistStamped, topic, 1)
    assert "/teleop" in cell.line.statuses[-1].message
    world.spin_for(0.2)
    assert not cell.line.passes()
    answer = cell.reset()
    assert not answer.success and "/teleop" in answer.message


def test_malformed_and_huge_messages_trip_unread(world):
    cell, huge = Guarded(world, "twist"), TwistStamped()
    huge.header.frame_id = "x" * 100_000
    cell.trips("bad_command", cell.line.commands.publish, b"nonsense")
    cell.mends()
    cell.trips("bad_command", cell.line.commands.publish, huge)


def test_a_callback_that_raises_trips(world, monkeypatch):
    cell = Guarded(world, "twist")
    joints = cell.guard._gate.joints
    cell.trips("control_error", monkeypatch.setattr, joints, "add_joint_state", lambda *_: 1 / 0)
    monkeypatch.undo()
    cell.mends()
    cell.trips("control_error", monkeypatch.setattr, cell.guard, "_rival", lambda: 1 / 0)


def test_a_trip_stops_the_node_and_so_does_motion_from_the_first(world, monkeypatch):
    monkeypatch.setattr(heisd_guard, "RESTLESS_SEC", 0.3)
    cell, called = Guarded(world, "twist"), []
    node = world.add(Node, "vla_node")
    answer = lambda request, response: called.append(1) or response  # noqa: E731
    node.create_service(Trigger, "/heisd_guard/node/estop", answer)
    cell.trips("bad_command", cell.bend, nan)
    world.spin_until(lambda: called, "a call of ~/estop")
    # Nothing is commanded meanwhile: one command from rest would be passed, and motion be a jump.
    cell.bend(lambda message: None)
    world.spin_until(lambda: cell.reset().success, "a reset")
    called.clear()
    cell.line.driver.goal = np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.0])
    cell.line.driver.runs_at(cell.line.driver.goal)
    cell.bend(lambda message: message)
    world.spin_until(lambda: cell.line.said("not_from_rest"), "commands that move from the first")
    world.spin_until(lambda: called, "a call of ~/estop")
    for _ in range(4):
        cell.moves()
        called.clear()
        world.spin_for(0.5)
        if not cell.stalled():
            break
        cell.mends()
    assert not called


def test_its_limits_cannot_be_changed_while_it_runs(world):
    guard = world.add(HeisdGuard, parameters=SETTINGS)
    (result,) = guard.set_parameters([Parameter("command.max_linear_speed", value=9.0)])
    assert not result.successful and "fixed while it runs" in result.reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"command.interface": "delta"}, "'command.interface' is 'delta'; accepted: 'twist' or"),
        ({"command.interface": "joint_velocity"}, "accepted: 'twist' or 'pose': heisd_guard"),
        ({"command.rate_hz": 0.0}, "command.rate_hz"),
        ({"command.max_linear_acceleration": 0.0, "command.max_linear_jerk": 0.0}, "a limit with"),
        ({"guard.command_timeout_sec": 0.1}, "less than 'command.controller_timeout_sec', 0.1 s"),
        ({"guard.command_timeout_sec": 0.03}, "at least 2 / 'command.rate_hz', 0.04 s"),
        ({"guard.margn_m": 0.03}, "guard.margn_m"),
        ({"guard.margin_m": -1.0}, "guard.margin_m"),
        ({"robot.source": "topic"}, "robot.tip_frame"),
        ({"robot.tip_frame": "no_such_link"}, "robot.tip_frame"),
    ],
)
def test_what_it_cannot_guard_by_is_refused_at_start(world, given, message):
    with pytest.raises(ValueError, match=r"\S") as caught:
        world.add(HeisdGuard, parameters={**SETTINGS, **given})
    assert message in str(caught.value) and "\n" not in str(caught.value)

"""Commands of the joints over real DDS: a model of joint actions moves an arm that integrates."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from std_srvs.srv import Trigger
from support.fake_scene import REST
from support.joint_cell import TICK_SEC, JointCell
from support.serving import openpi_serving, serving_policy
from support.tiny_vla import INSTRUCTIONS

from heisd_ros.control.policy import load_policy
from heisd_ros.kinematics.robots import PANDA_JOINTS
from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters

SUCCESS = TransitionCallbackReturn.SUCCESS
RATE_HZ, ACCELERATION, JERK, SCALE = 1.0 / TICK_SEC, 10.0, 500.0, 0.5
TIMEOUT_SEC = 0.5
SPEEDS = SCALE * np.array([2.175] * 4 + [2.61] * 3)
"""rad/s, those of the Panda (Franka Control Interface documentation) by the scale."""
UPPER = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
SETTINGS = {
    "model.threads": 1,
    "instruction": INSTRUCTIONS[0],
    "command.rate_hz": RATE_HZ,
    "watchdog_hz": RATE_HZ,
    "command.max_action_age_sec": 5.0,
    "input.image_timeout_sec": TIMEOUT_SEC,
    "input.joint_state_timeout_sec": TIMEOUT_SEC,
    "joints.slow_rad": 0.2,
    "joints.stop_rad": 0.02,
    "joints.velocity_scale": SCALE,
    "joints.max_acceleration": ACCELERATION,
    "joints.max_jerk": JERK,
}
ACTION = np.array([0.2, -0.3, 0.1, -0.2, 0.3, 0.4, -0.5, 1.0])


class Puppet:
    """A decoder of joint actions that the test chooses."""

    def __init__(self, decoder):
        self._decoder, self.action = decoder, ACTION

    def __getattr__(self, name):
        return getattr(self._decoder, name)

    def infer(self, observation):
        return replace(self._decoder.infer(observation), action=np.array(self.action))


class Chunks(Puppet):
    """Answers with ten actions: their first number counts answers, their second actions."""

    def __init__(self, decoder, first):
        super().__init__(decoder)
        self.first, self.answers, self.go = first, 0, threading.Event()
        self.go.set()

    def actions(self):
        self.go.wait(20.0)
        self.answers += 1
        chunk = np.tile(self.first, (10, 1))
        chunk[:, 0] += self.answers / 1000
        chunk[:, 1] += np.arange(10) / 1000
        return chunk

    def infer(self, observation):
        chunk = self.actions()
        return replace(self._decoder.infer(observation), action=chunk[0], chunk=chunk)


@pytest.fixture
def start(world, checkpoint):
    """Starts a cell and an active node whose model has the actions of a space."""

    def begin(interface, space="joint_velocity", parameters=None, message="array", home=REST):
        puppets = []

        def load(settings):
            policy = load_policy(settings)
            puppets.append(Puppet(policy.decoder))
            size = 7 if space == "end_effector" else 8
            return replace(policy, decoder=puppets[0], action_space=space, action_size=size)

        cell = world.add(JointCell, interface, message, home)
        settings = {"model.path": str(checkpoint), **SETTINGS, "command.interface": interface}
        settings |= {"command.joint_message": message, **(parameters or {})}
        node = world.add(VlaNode, load, parameters=settings)
        assert node.trigger_configure() == node.trigger_activate() == SUCCESS
        return cell, node, puppets[0]

    return begin


def assert_smooth(cell):
    """Speed of all, and acceleration of those that came on time, by differences of neighbours.

    Commands that are late in a row count for more ticks.
    """
    sent = np.array([np.zeros(7), *(each.numbers for each in cell.heard)])
    times = np.array([each.received for each in cell.heard])
    assert np.isfinite(sent).all() and (np.abs(sent) <= SPEEDS * (1 + 1e-6)).all()
    gaps = np.concatenate([[1.0 / RATE_HZ], np.diff(times)])
    on_time = np.flatnonzero(np.convolve(gaps > 1.7 / RATE_HZ, np.ones(4))[: len(gaps)] == 0)
    change = np.abs(np.diff(sent, axis=0))[on_time] * RATE_HZ
    assert change.max() <= ACCELERATION * (1 + 1e-6)


def moving(cell):
    return bool(cell.heard) and np.abs(cell.heard[-1].numbers[:6]).max() > 0.15


def test_velocities_of_a_model_move_the_joints_and_end_with_a_stop(world, start):
    cell, node, _ = start("joint_velocity")
    world.spin_until(lambda: moving(cell), "motion", cell.publish)
    wanted = lambda joints: np.allclose(joints, ACTION[:7], rtol=0.0, atol=1e-9)  # noqa: E731
    full = lambda: wanted(cell.heard[-1].numbers) and wanted(cell.steps()[-1].joints)  # noqa: E731
    world.spin_until(full, "the model's velocities", cell.publish)
    assert (np.sign(cell.q - REST) == np.sign(ACTION[:7])).all()
    step = cell.steps()[-1]
    assert np.abs(step.twist).max() > 0.01 and len(step.action) == 8
    assert node.trigger_deactivate() == SUCCESS
    world.spin_for(0.2)
    assert not cell.heard[-1].numbers.any()
    assert_smooth(cell)
    assert cell.grippers[-1].data == 0.0


FAULTS = {
    "estop": lambda world, cell: world.call(Trigger, "/vla_node/estop"),
    "stale_image": lambda world, cell: cell.image_of.update(image=lambda stamp: None),
    "stale_joint_states": lambda world, cell: setattr(cell, "joints_of", lambda stamp: None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stops_the_joints_by_name(world, start, fault):
    cell, _, _ = start("joint_velocity")
    world.spin_until(lambda: moving(cell), "motion", cell.publish)
    since = time.monotonic()
    FAULTS[fault](world, cell)
    world.spin_until(lambda: fault in cell.holds(), fault, cell.publish)
    world.spin_until(cell.still, "a stop", cell.publish)
    limit = 0.0 if fault == "estop" else TIMEOUT_SEC
    stood = next(each for each in cell.heard if each.received > since and not each.numbers.any())
    assert stood.received - since < limit + 1.0
    assert_smooth(cell)


@pytest.mark.parametrize("beyond", [-0.3, 0.05])
def test_a_joint_stops_before_its_limit_or_comes_back_inside(world, start, beyond):
    home = REST.copy()
    home[6] = UPPER[6] + beyond
    cell, _, puppet = start("joint_velocity", home=home)
    puppet.action = np.array([0, 0, 0, 0, 0, 0, 1.0, -1.0])
    limited = lambda: any("panda_joint7" in step.reason for step in cell.steps())  # noqa: E731
    world.spin_until(limited, "the limit", cell.publish)
    cell.overdue = np.zeros(7)  # what was late before, the node has seen
    if beyond < 0.0:
        world.spin_until(lambda: cell.q[6] > home[6] + 0.1, "the way there", cell.publish)
    world.spin_for(0.6, cell.publish)
    reached = max(q[6] for q in cell.places)
    if beyond < 0.0:
        assert reached - cell.overdue[6] <= UPPER[6] - 0.01
    else:
        assert reached <= home[6] + 1e-6
    puppet.action = -puppet.action
    world.spin_until(lambda: cell.q[6] < min(reached, UPPER[6]) - 0.1, "the way back", cell.publish)


def test_positions_begin_at_the_arm_and_stand_in_a_hold(world, start):
    cell, node, puppet = start("joint_position", "joint_position", message="trajectory")
    goal = REST + np.array([0.2, -0.1, 0.1, -0.2, 0.1, 0.1, 0.2])
    puppet.action = np.append(goal, 1.0)
    near = lambda: np.abs(cell.q - goal).max() < 0.01  # noqa: E731
    world.spin_until(near, "the goal", cell.publish)
    targets = np.array([each.numbers for each in cell.heard])
    assert np.abs(targets[0] - REST).max() < 0.01
    assert (np.abs(np.diff(targets, axis=0)) <= 3.0 * SPEEDS / RATE_HZ).all()
    for trajectory in cell.trajectories:
        assert trajectory.joint_names == list(PANDA_JOINTS) and len(trajectory.points) == 1
        point = trajectory.points[0]
        assert point.time_from_start.nanosec == 20_000_000 and not point.velocities
    world.call(Trigger, "/vla_node/estop")
    world.spin_until(cell.still, "a stand", cell.publish)
    kept = cell.heard[-1].numbers
    assert node.trigger_deactivate() == SUCCESS
    world.spin_for(0.2)
    np.testing.assert_array_equal(cell.heard[-1].numbers, kept)


def test_a_dry_run_tells_the_velocities_for_a_step_of_the_end_effector_and_sends_none(world, start):
    cell, _, puppet = start("joint_velocity", "end_effector", {"dry_run": True})
    puppet.action = np.array([0.0, 0.0, -0.05, 0.0, 0.0, 0.0, 1.0])
    down = lambda step: np.allclose(step.twist, [0, 0, -0.05, 0, 0, 0], atol=5e-3)  # noqa: E731
    world.spin_until(lambda: cell.steps() and down(cell.steps()[-1]), "the twist", cell.publish)
    step = cell.steps()[-1]
    assert step.dry_run and len(step.joints) == 7 and np.abs(step.joints).max() > 0.01
    assert cell.count_publishers("/vla_node/output/joint_velocity") == 0 and not cell.heard


def test_an_action_that_is_none_holds_the_arm(world, start):
    cell, _, puppet = start("joint_velocity")
    world.spin_until(lambda: moving(cell), "motion", cell.publish)
    for bad, words in ((np.full(8, np.nan), "nan"), (np.zeros(7), "accepted: 8 finite numbers")):
        puppet.action = bad
        told = lambda: any(words in m.reason for m in cell.telemetry if m.hold)  # noqa: B023, E731
        world.spin_until(told, words, cell.publish)
    world.spin_until(cell.still, "a stop", cell.publish)
    puppet.action = ACTION
    world.spin_until(lambda: moving(cell), "motion again", cell.publish)


@pytest.mark.parametrize(
    ("interface", "openpi"), [("joint_velocity", True), ("joint_position", False)]
)
def test_chunks_of_a_server_move_the_joints_within_limits_and_end_in_a_stop(
    world, checkpoint, interface, openpi
):
    path = {"model.path": str(checkpoint), "model.threads": 1}
    first = ACTION if interface == "joint_velocity" else np.append(REST + 0.2, 1.0)
    local = load_policy(from_values(VlaNodeParameters, path))
    chunks = Chunks(local.decoder, first)
    actions = {"horizon": 10, "action_space": interface, "action_size": 8}
    policy = replace(local, decoder=chunks, plain=None, **actions)
    cell = world.add(JointCell, interface)
    with ExitStack() as ending:
        if openpi:
            uri = ending.enter_context(openpi_serving(lambda question: chunks.actions()))
            said = {"model.action_space": interface, "model.state": "joints"}
            path |= {"model.path": f"{uri}?state=joint_position,gripper_position", **said}
        else:
            path["model.path"] = ending.enter_context(serving_policy(policy)).uri
        ending.callback(chunks.go.set)
        node = world.add(
            VlaNode, load_policy, parameters={**SETTINGS, **path, "command.interface": interface}
        )
        assert node.trigger_configure() == node.trigger_activate() == SUCCESS
        third = lambda: any(step.chunk.number >= 3 for step in cell.steps())  # noqa: E731
        world.spin_until(third, "three chunks", cell.publish)
        chunks.go.clear()
        world.spin_until(lambda: "no_chunk" in cell.holds(), "the end", cell.publish)
        world.spin_until(cell.still, "a stop", cell.publish)
    places = [(step.chunk.number, step.chunk.index) for step in cell.steps()]
    assert places == sorted(set(places)) and max(index for _, index in places) > 4
    for step in cell.steps():
        assert step.action[1] == pytest.approx(first[1] + step.chunk.index / 1000)
    assert (np.sign(cell.q - REST) == np.sign(first[:7] - REST * (not openpi))).all()
    if not openpi:
        targets = np.array([REST, *(each.numbers for each in cell.heard)])
        assert (np.abs(np.diff(targets, axis=0)) <= 3.0 * SPEEDS / RATE_HZ).all()
    else:
        assert_smooth(cell)

"""From an action to commands of the joints, for every action space, on random arms."""

from __future__ import annotations

import numpy as np
import pytest
from support.random_arms import RandomArm

from heisd_ros.control.following_check import Following
from heisd_ros.control.motion import JointMotion
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.joint_states import ArmState
from heisd_ros.robot.declare import with_values
from heisd_ros.robot.parameters import VlaNodeParameters

TICK, STEP, SCALE, STOP = 0.02, 0.05, 0.5, 0.01
ACCELERATION, JERK, LEAD = 20.0, 400.0, 0.1
SETTINGS = {
    "robot.source": "topic",
    "robot.base_frame": "l0",
    "robot.tip_frame": "tip",
    "command.rate_hz": 1.0 / TICK,
    "command.max_lead_rad": LEAD,
    "joints.slow_rad": 0.1,
    "joints.stop_rad": STOP,
    "joints.velocity_scale": SCALE,
    "joints.max_acceleration": ACCELERATION,
    "joints.max_jerk": JERK,
}


class Rig:
    """A random arm that does what it is told, and the motion that tells it.

    Attributes:
        velocities: of every tick, (n,) each.
        targets: likewise, as far as there are some.
    """

    def __init__(self, interface, space, seed=0, count=6, **settings):
        self.rng = np.random.default_rng(seed)
        self.arm = RandomArm(self.rng, count)
        self.kinematics = ArmKinematics(self.arm.urdf, "tip")
        names = {"robot.joint_names": self.arm.names, "command.interface": interface}
        self.settings = with_values(VlaNodeParameters(), {**SETTINGS, **names, **settings})
        self.following = Following(self.settings, STEP)
        self.motion = JointMotion(self.settings, space, TICK, STEP, self.following)
        self.q = self.arm.middle()
        self.now = 0
        self.velocities, self.targets, self.positions = [np.zeros(count)] * 2, [], [self.q]

    def state(self):
        return ArmState(self.kinematics, self.q, None, None)

    def tick(self, wanted, follows=True, seen=True):
        """One command; None: a hold."""
        arm = self.state() if seen else None
        self.following.seen(arm, self.now)
        if wanted is None:
            command = self.motion.halt(arm, TICK)
        else:
            command = self.motion.step(wanted, arm, TICK)
        self.following.sent(command.twist, self.now, command.joints)
        self.now += int(TICK * 1e9)
        self.velocities.append(command.joints)
        if command.target is not None:
            self.targets.append(command.target)
        if follows:
            self.q = self.q + command.joints * TICK if command.target is None else command.target
            self.positions.append(self.q)
        return command

    def check(self):
        """Every limit, by finite differences."""
        velocities, positions = np.array(self.velocities), np.array(self.positions)
        acceleration = np.diff(velocities, axis=0) / TICK
        assert (np.abs(velocities) <= SCALE * self.arm.speeds * (1 + 1e-6)).all()
        assert np.abs(acceleration).max() <= ACCELERATION * (1 + 1e-6)
        assert np.abs(np.diff(acceleration, axis=0)).max() <= JERK * TICK * (1 + 1e-6)
        start = positions[0]
        assert (positions >= np.minimum(self.arm.lower + STOP, start) - 1e-6).all()
        assert (positions <= np.maximum(self.arm.upper - STOP, start) + 1e-6).all()


def wanted_in(space, rig):
    """A random motion of an action space."""
    if space == "end_effector":
        return rig.rng.normal(size=6) * np.repeat([0.2, 1.0], 3)
    if space == "joint_velocity":
        return rig.rng.normal(size=len(rig.q))
    return rig.arm.anywhere(rig.rng) * 1.2


@pytest.mark.parametrize("interface", ["joint_velocity", "joint_position"])
@pytest.mark.parametrize("space", ["end_effector", "joint_velocity", "joint_position"])
def test_a_second_of_any_actions_keeps_every_limit(interface, space):
    for seed in range(2):
        rig = Rig(interface, space, seed)
        for _ in range(4):
            wanted = wanted_in(space, rig)
            for _ in range(10):
                rig.tick(wanted)
            for _ in range(3):
                rig.tick(None)
        for _ in range(25):
            last = rig.tick(None)
        assert not last.joints.any() and rig.motion.at_rest
        rig.check()


@pytest.mark.parametrize("interface", ["joint_velocity", "joint_position"])
def test_positions_are_reached_and_not_passed(interface):
    rig = Rig(interface, "joint_position", count=4)
    goal = rig.q + np.array([0.2, -0.15, 0.1, 0.05])
    for _ in range(150):
        rig.tick(goal)
    rig.check()
    way = np.array(rig.positions) - rig.positions[0]
    np.testing.assert_allclose(rig.q, goal, atol=1e-3)
    assert (np.abs(way) <= np.abs(goal - rig.positions[0]) + 2e-3).all()


def test_a_continuous_joint_turns_the_shorter_way():
    rig = next(
        rig
        for rig in (Rig("joint_position", "joint_position", seed) for seed in range(50))
        if np.isinf(rig.arm.upper).any()
    )
    joint = int(np.flatnonzero(np.isinf(rig.arm.upper))[0])
    rig.q = rig.q.copy()
    rig.q[joint] = 3.0
    goal = rig.q.copy()
    goal[joint] = -3.0
    for _ in range(100):
        command = rig.tick(goal)
    assert command.target[joint] == pytest.approx(2 * np.pi - 3.0, abs=1e-2)


def test_velocities_reach_the_arm_as_they_are_within_the_limits():
    rig = Rig("joint_velocity", "joint_velocity")
    wanted = 0.2 * rig.arm.speeds * np.array([1, -1, 1, -1, 1, -1])
    for _ in range(20):
        command = rig.tick(wanted)
    np.testing.assert_allclose(command.joints, wanted)
    tip = rig.kinematics.twist(rig.positions[-2], wanted)
    np.testing.assert_allclose(command.twist, tip, atol=1e-9)


def test_a_step_of_the_end_effector_moves_the_tip_and_stays_in_the_box():
    rig = Rig("joint_velocity", "end_effector", seed=5, count=7)
    home = rig.arm.tip(rig.q)[0]
    height = {"workspace.z_max": float(home[2]) + 0.03, "workspace.z_min": float(home[2]) - 1.0}
    rig.settings = with_values(rig.settings, height)
    rig.motion.set_limits(rig.settings)
    for _ in range(100):
        command = rig.tick(np.array([0.0, 0.0, 0.1, 0.0, 0.0, 0.0]))
    rig.check()
    places = np.array([rig.arm.tip(q)[0] for q in rig.positions])
    assert 0.02 < places[-1][2] - home[2] <= 0.03 + 1e-3
    assert np.abs(places[:, :2] - home[:2]).max() < 0.01 and command.notes


def test_a_target_begins_at_the_arm_leads_by_a_little_and_stands_in_a_hold():
    rig = Rig("joint_position", "joint_velocity")
    home = rig.q.copy()
    assert rig.tick(None, seen=False).target is None
    np.testing.assert_array_equal(rig.tick(None).target, home)
    for _ in range(100):
        command = rig.tick(np.full(6, 0.5), follows=False)
    assert 0.5 * LEAD < np.abs(command.target - home).max() <= LEAD + 1e-6
    for _ in range(25):
        rig.tick(None, follows=False)
    kept = rig.targets[-1]
    rig.q = home - 0.05  # it sags
    assert np.array_equal(rig.tick(None, follows=False).target, kept)


def test_an_arm_that_is_no_longer_seen_is_stopped():
    rig = Rig("joint_velocity", "joint_velocity")
    wanted = 0.2 * rig.arm.speeds
    for _ in range(15):
        rig.tick(wanted)
    for _ in range(25):
        command = rig.tick(wanted, seen=False)
    assert not command.joints.any() and "pose_unknown" in command.notes
    rig.check()


def test_an_arm_whose_joint_states_stand_still_is_not_led_beyond_a_limit():
    """Until the hold for frozen joint states comes, the commands count."""
    rig = Rig("joint_velocity", "joint_velocity")
    joint = int(np.flatnonzero(np.isfinite(rig.arm.upper))[0])
    rig.q = rig.q.copy()
    rig.q[joint] = rig.arm.upper[joint] - 0.15
    told = 0.0
    for _ in range(100):
        command = rig.tick(np.eye(6)[joint] * 0.5, follows=False)
        told += command.joints[joint] * TICK
    assert 0.05 < told <= 0.15
    assert rig.following.problem().reason == "frozen_joint_states"


def test_limits_may_become_tighter_while_the_arm_moves():
    rig = Rig("joint_velocity", "joint_velocity")
    wanted = SCALE * rig.arm.speeds
    for _ in range(20):
        rig.tick(wanted)
    tighter = with_values(rig.settings, {"joints.velocity_scale": 0.1})
    rig.motion.set_limits(tighter)
    for _ in range(30):
        command = rig.tick(wanted)
    rig.check()
    assert (np.abs(command.joints) <= 0.1 * rig.arm.speeds + 1e-9).all()

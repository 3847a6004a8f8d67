"""Joint states that are possible for an arm, and those that are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_scene import REST

from heisd_ros.errors import JointStateError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.joint_stream import PlausibleJoints
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf

ARM = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
WHEEL = ArmKinematics(
    '<robot name="w"><link name="a"/><link name="b"/><joint name="j" type="continuous">'
    '<parent link="a"/><child link="b"/><axis xyz="0 0 1"/></joint></robot>',
    "b",
)
MARGIN = 0.1


def judge(kinematics=ARM, limits=None):
    return PlausibleJoints(kinematics, limits or {})


def with_joint(index, value):
    positions = REST.copy()
    positions[index] = value
    return positions


def test_the_description_gives_the_limits_of_the_speeds():
    np.testing.assert_allclose(ARM.velocity_limits, [2.175] * 4 + [2.61] * 3)
    assert WHEEL.velocity_limits[0] == np.inf


@given(st.lists(st.floats(0.0, 1.0), min_size=7, max_size=7), st.floats(0.002, 0.2))
def test_any_motion_within_the_limits_is_believed(shares, period):
    lower, upper = ARM.position_limits
    plausible = judge()
    positions = lower + np.array(shares) * (upper - lower)
    way = np.where(positions < (lower + upper) / 2, 1.0, -1.0)
    for step in range(5):
        at = step * period
        plausible.check(positions + way * ARM.velocity_limits * at * 0.9, MARGIN, at, 100.0 + at)


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        (with_joint(6, 1e300), r"panda_joint7 is 1e\+300; accepted: -2.997 to 2.997"),
        (with_joint(3, 0.1), "panda_joint4 is 0.1;"),
        (REST[[0, 3, 2, 1, 4, 5, 6]], "panda_joint2 is -2"),
        (np.degrees(REST), "looks like degrees"),
    ],
)
def test_positions_beyond_the_limits_are_named(positions, words):
    with pytest.raises(JointStateError, match=words):
        judge().check(positions, MARGIN, 0.0, 0.0)


def test_one_joint_that_is_some_turns_off_is_not_taken_for_degrees():
    with pytest.raises(JointStateError) as told:
        judge().check(with_joint(6, 19.6), MARGIN, 0.0, 0.0)
    assert "degrees" not in str(told.value)


def test_limits_of_the_parameters_may_be_wider_and_never_narrower():
    judge(limits={"panda_joint7": (-9.0, 9.0)}).check(with_joint(6, 8.0), 0.0, 0.0, 0.0)
    judge(limits={"panda_joint7": (-0.1, 0.1)}).check(with_joint(6, 2.0), 0.0, 0.0, 0.0)


def test_a_wheel_may_turn_far_but_not_absurdly():
    judge(WHEEL).check(np.array([300.0]), 0.0, 0.0, 0.0)
    with pytest.raises(JointStateError, match="1e"):
        judge(WHEEL).check(np.array([1e6]), 0.0, 0.0, 0.0)


def test_two_arms_on_one_topic_contradict_each_other_in_every_message():
    plausible, other = judge(), REST + 0.4
    plausible.check(REST, MARGIN, 0.0, 0.0)
    for step in range(1, 6):
        with pytest.raises(JointStateError, match=r"jumped from .* in 0\.010 s"):
            plausible.check(other if step % 2 else REST, MARGIN, 0.01 * step, 0.01 * step)


def test_messages_that_arrive_late_in_a_burst_are_judged_by_their_stamps():
    plausible = judge()
    for step in range(50):
        plausible.check(REST + 0.02 * step / 7, MARGIN, 0.01 * step, 5.0)
    plausible.check(REST + 0.02 * 40 / 7, MARGIN, 0.40, 5.0)  # and out of order


def test_an_arm_may_be_anywhere_after_a_pause():
    plausible = judge()
    plausible.check(REST, MARGIN, 0.0, 0.0)
    plausible.check(REST + 0.4, MARGIN, 0.0, 2.0)


@pytest.mark.parametrize(
    ("velocities", "usable"),
    [
        (None, False),
        ([2.0] * 7, True),
        ([0.0] * 6 + [1e300], False),
        (np.degrees([1.0] * 7), False),
    ],
)
def test_velocities_in_another_unit_are_not_used(velocities, usable):
    given = None if velocities is None else np.array(velocities)
    assert judge().usable(given) == usable


@pytest.mark.parametrize("step", [-0.01, 0.0, 0.01])
def test_a_driver_may_report_a_continuous_joint_within_half_a_turn(step):
    wheel, angle = judge(WHEEL), np.pi - 5 * abs(step)
    for number in range(20):
        wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
        wheel.check(np.array([wrapped]), MARGIN, number / 100, number / 100)
        angle += step or 1e-4 * (-1) ** number


def test_a_continuous_joint_that_jumps_is_told():
    wheel = judge(WHEEL)
    wheel.check(np.array([0.0]), MARGIN, 0.0, 0.0)
    with pytest.raises(JointStateError, match=r"j jumped from 0\.000 to 3\.000"):
        wheel.check(np.array([3.0]), MARGIN, 0.01, 0.01)

"""The monitor of commanded and measured motion: where the tip may be, and when the arm is held."""

from __future__ import annotations

import numpy as np
import pytest
from support.fake_scene import REST

from heisd_ros.control.following_check import Following
from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.joint_states import ArmState
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.robot.declare import with_values
from heisd_ros.robot.parameters import VlaNodeParameters

ARM = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
STILL = ArmState(ARM, REST, None, None)
AHEAD = np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0])
TICK = NANOSECONDS // 50


def told(seconds, age_sec=0.0, **settings):
    """A monitor of an arm that stands while it is told to go ahead."""
    following = Following(with_values(VlaNodeParameters(), settings), 0.05)
    for tick in range(round(seconds * 50) + 1):
        following.seen(STILL, tick * TICK, age_sec)
        following.sent(AHEAD, tick * TICK)
    return following


def reckoned(following, wanted):
    return following.position(STILL.tip().position, wanted) - STILL.tip().position


def test_the_box_is_kept_where_twists_led_and_on_the_way_back_where_the_arm_is():
    following = told(0.5)
    np.testing.assert_allclose(reckoned(following, AHEAD), [0.05, 0.0, 0.0], atol=2e-3)
    np.testing.assert_allclose(reckoned(following, -AHEAD), 0.0, atol=2e-3)


@pytest.mark.parametrize(
    "settings", [{"command.interface": "pose"}, {"command.interface": "delta"}]
)
def test_other_commands_are_not_reckoned(settings):
    np.testing.assert_array_equal(reckoned(told(0.5, **settings), AHEAD), 0.0)


def test_the_arm_is_held_by_the_name_of_what_is_wrong():
    assert told(1.0).problem() is None
    hold = told(1.5).problem()
    assert hold.reason == "frozen_joint_states" and "panda_joint4" in hold.detail
    hold = told(3.0, **{"input.frozen_joint_sec": 0.0}).problem()
    assert hold.reason == "not_following" and "along x" in hold.detail


@pytest.mark.parametrize(
    "settings", [{"dry_run": True}, {"input.frozen_joint_sec": 0.0, "input.follow_distance_m": 0.0}]
)
def test_what_is_not_told_or_not_checked_holds_nothing(settings):
    assert told(5.0, **settings).problem() is None


def test_what_was_told_since_an_old_joint_state_counts():
    following = Following(VlaNodeParameters(), 0.05)
    for tick in range(200):  # an arm that follows, seen half a second late
        late = REST + (tick - 25) * 1e-3
        following.seen(ArmState(ARM, late, None, None), tick * TICK, 0.5)
        following.sent(AHEAD, tick * TICK)
    assert reckoned(following, AHEAD)[0] >= 0.049


@pytest.mark.parametrize(("elapsed_sec", "held"), [(0.05, True), (1.0, True), (1e-9, False)])
def test_in_lock_step_an_answer_to_the_same_observation_is_no_motion(elapsed_sec, held):
    settings = {"command.stamp": "observation", "input.frozen_joint_sec": 0.0}
    following = Following(with_values(VlaNodeParameters(), settings), 0.05)
    for tick in range(60):
        following.seen(STILL, tick * TICK, 0.0, elapsed_sec)
        following.sent(AHEAD, tick * TICK)
    assert (following.problem() is not None) == held

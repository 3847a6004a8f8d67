import numpy as np
from support.fake_scene import REST

from heisd_ros.evaluation.joint_limits import MARGIN_RAD, limit_events, panda_limits


def test_the_limits_are_frankas():
    low, high = panda_limits()
    # Franka's data sheet; the description is a little inside it or equal.
    assert np.allclose(
        low, [-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973], atol=0.01
    )
    assert np.allclose(high, [2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973], atol=0.01)


def test_an_arm_at_rest_is_far_from_its_limits():
    assert limit_events(np.tile(REST, (5, 1))) == 0


def test_each_arrival_at_a_limit_counts_once_however_long_it_lasts():
    _, high = panda_limits()
    joints = np.tile(REST, (8, 1))
    joints[[1, 2, 3, 6], 0] = high[0] - MARGIN_RAD / 2
    assert limit_events(joints) == 2
    joints[3:, 5] = high[5] + 0.1
    assert limit_events(joints) == 3


def test_starting_at_a_limit_counts():
    low, _ = panda_limits()
    joints = np.tile(REST, (2, 1))
    joints[:, 3] = low[3]
    assert limit_events(joints) == 1

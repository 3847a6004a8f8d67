"""Actions to twists and gripper commands."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from heisd_ros.control.commands import CommandMapper, GripperSwitch, rotation_vector
from heisd_ros.nodes.sim.sim_messages import twist_action
from heisd_ros.robot.declare import with_values
from heisd_ros.robot.parameters import VlaNodeParameters

DEFAULTS = VlaNodeParameters()
angles = st.floats(-3.1, 3.1)
actions = st.lists(st.floats(-1, 1), min_size=7, max_size=7).map(np.array)


@given(angles, angles, angles)
def test_rotation_vector_is_that_of_fixed_axes_x_y_z(roll, pitch, yaw):
    vector = rotation_vector(roll, pitch, yaw)
    expected = Rotation.from_euler("xyz", [roll, pitch, yaw])
    assert (Rotation.from_rotvec(vector).inv() * expected).magnitude() < 1e-7
    assert np.linalg.norm(vector) <= math.pi + 1e-9


def test_rotation_vector_of_nothing_is_nothing():
    assert rotation_vector(0.0, 0.0, 0.0).tolist() == [0.0, 0.0, 0.0]


@given(actions)
def test_the_simulated_arm_undoes_the_mapping(action):
    from geometry_msgs.msg import Twist

    twist = CommandMapper(DEFAULTS, 20.0).twist(action)
    message = Twist()
    message.linear.x, message.linear.y, message.linear.z = twist[:3]
    message.angular.x, message.angular.y, message.angular.z = twist[3:]
    np.testing.assert_allclose(twist_action(message), action[:6], atol=1e-12)


def test_roll_pitch_yaw_is_converted():
    settings = with_values(
        DEFAULTS, {"command.rotation_convention": "roll_pitch_yaw", "command.rotation_scale": 1.0}
    )
    action = np.array([0, 0, 0, 0.3, -0.2, 0.9, 0])
    twist = CommandMapper(settings, 10.0).twist(action)
    expected = Rotation.from_euler("xyz", action[3:6]).as_rotvec() * 10.0
    np.testing.assert_allclose(twist[3:], expected)


@pytest.mark.parametrize(
    ("open_action", "closed_action", "value", "openness"),
    [(-1, 1, -1, 1), (-1, 1, 1, 0), (1, 0, 1, 1), (1, 0, 0.25, 0.25), (-1, 1, -7, 1)],
)
def test_gripper_polarity_is_that_of_the_parameters(open_action, closed_action, value, openness):
    ends = {"gripper.open_action": open_action, "gripper.closed_action": closed_action}
    settings = with_values(DEFAULTS, {name: float(value) for name, value in ends.items()})
    action = np.array([0, 0, 0, 0, 0, 0, value], float)
    assert CommandMapper(settings, 20.0).gripper_openness(action) == openness


def test_the_gripper_is_told_on_change_and_now_and_then():
    switch = GripperSwitch(with_values(DEFAULTS, {"gripper.resend_sec": 1.0}))
    assert math.isnan(switch.position)
    assert switch.update(0.9, 0.0) == 0.08
    assert switch.update(0.45, 0.1) is None  # within the hysteresis
    assert switch.update(0.3, 0.2) == 0.0
    assert switch.update(0.55, 0.3) is None
    assert switch.update(0.1, 1.2) == 0.0  # said again after a second
    assert switch.update(0.1, 1.3) is None
    assert switch.position == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_without_resending_two_commands_in_a_row_differ(opennesses):
    switch = GripperSwitch(with_values(DEFAULTS, {"gripper.resend_sec": 0.0}))
    sent = [switch.update(value, float(i)) for i, value in enumerate(opennesses)]
    sent = [position for position in sent if position is not None]
    assert all(a != b for a, b in pairwise(sent))


@pytest.mark.parametrize("hysteresis", [0.0, 0.1, 0.5])
def test_an_action_at_its_ends_switches_whatever_the_hysteresis(hysteresis):
    switch = GripperSwitch(with_values(DEFAULTS, {"gripper.hysteresis": hysteresis}))
    sent = [switch.update(openness, 0.0) for openness in (1.0, 0.0, 0.5, 1.0)]
    assert sent == [0.08, 0.0, None, 0.08]

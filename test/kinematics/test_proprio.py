"""The proprioceptive vector: layout, continuity near tool-down, bad input."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.kinematics.pose import Pose
from heisd_ros.kinematics.proprio import PROPRIO_SIZE, TOOL_DOWN, proprio_vector

turns = st.tuples(*[st.floats(-1.7, 1.7)] * 3).map(np.array)


@given(turns)
def test_layout_and_rotation_vector(turn):
    position = np.array([0.4, -0.1, 0.2])
    vector = proprio_vector(Pose(position, TOOL_DOWN @ pin.exp3(turn)), 0.08)
    assert vector.shape == (PROPRIO_SIZE,)
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector[:3], position, atol=1e-6)
    np.testing.assert_allclose(vector[3:6], turn, atol=1e-5)
    assert vector[6] == np.float32(0.08)


@given(turns, turns)
def test_small_turns_move_it_little(turn, nudge):
    """Within 100 degrees of tool-down the vector has no jump (it stretches by pi/2 at most)."""
    turn = turn * min(1.0, 1.75 / (np.linalg.norm(turn) + 1e-9))
    near = TOOL_DOWN @ pin.exp3(turn)
    a = proprio_vector(Pose(np.zeros(3), near), 0.0)
    b = proprio_vector(Pose(np.zeros(3), near @ pin.exp3(1e-3 * nudge)), 0.0)
    assert np.linalg.norm(a - b) <= 2.0 * 1e-3 * np.linalg.norm(nudge) + 1e-5


@given(turns)
def test_rotations_that_went_through_float32_are_fine(turn):
    rotation = (TOOL_DOWN @ pin.exp3(turn)).astype(np.float32)
    vector = proprio_vector(Pose(np.zeros(3, np.float32), rotation), 0.0)
    np.testing.assert_allclose(vector[3:6], turn, atol=2e-3)


@pytest.mark.parametrize(
    ("position", "rotation", "message"),
    [
        ([0, 0], np.eye(3), "position"),
        ([0, 0, np.nan], np.eye(3), "position"),
        ([0, 0, 0], np.eye(4), "rotation"),
        ([0, 0, 0], 1.01 * np.eye(3), "rotation"),
        ([0, 0, 0], -np.eye(3), "rotation"),
        ([0, 0, 0], np.full((3, 3), np.nan), "rotation"),
    ],
)
def test_bad_poses_are_named(position, rotation, message):
    with pytest.raises(ValueError, match=message):
        Pose(position, rotation)


def test_bad_gripper_is_named():
    with pytest.raises(ValueError, match="gripper_opening"):
        proprio_vector(Pose(np.zeros(3), np.eye(3)), np.nan)

"""An episode accepts arrays of matching shapes and names one that does not match."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.episodes import episode


def test_counts_its_steps():
    assert len(episode(steps=4)) == 4


def test_needs_neither_velocities_nor_landmarks_nor_images():
    bare = episode(joint_velocities=None, landmarks=None, images={})
    assert bare.joint_velocities is None


@pytest.mark.parametrize(
    "name, shape",
    [
        ("actions", (3, 6)),
        ("joint_positions", (3,)),
        ("joint_positions", (2, 7)),
        ("joint_velocities", (3, 6)),
        ("gripper_opening", (3, 2)),
        ("landmarks", (3, 3)),
    ],
)
def test_wrong_shape_is_named(name, shape):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(episode(steps=3), **{name: np.zeros(shape)})


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 8, 8, 3), np.float32),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((3, 8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
    ],
)
def test_wrong_images_are_named(images):
    with pytest.raises(ValueError, match="agentview"):
        episode(steps=3, images={"agentview": images})


def test_no_step_is_no_episode():
    with pytest.raises(ValueError, match="at least one step"):
        episode(steps=0)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_thinning_keeps_every_nth_step_and_says_so(every):
    whole = episode(steps=5)
    thin = whole.thinned(every)
    assert (len(thin), thin.stride) == (len(range(0, 5, every)), 2 * every)
    np.testing.assert_array_equal(thin.actions, whole.actions[::every])
    for view, pictures in thin.images.items():
        np.testing.assert_array_equal(pictures, whole.images[view][::every])
    assert (thin.instruction, thin.init_state) == (whole.instruction, whole.init_state)

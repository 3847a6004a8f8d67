"""The scale from demonstrations: a few fast moments do not set it."""

import numpy as np
import pytest

from heisd_ros.kinematics.metric import MetricBounds, Trajectory


def test_the_top_of_the_scale_is_the_95th_percentile_and_not_the_maximum():
    """An episode of 300 samples at 0.1 m/s, six of them at 2 m/s."""
    speed = np.full(300, 0.1)
    speed[150:156] = 2.0
    velocities = np.stack([speed, np.zeros(300), np.zeros(300)], axis=1)
    positions = np.cumsum(velocities / 20, axis=0)
    bounds = MetricBounds.from_trajectories(
        [Trajectory(positions, np.arange(300) / 20, velocities)]
    )
    assert bounds.speed_range[1] == pytest.approx(0.1)
    top = MetricBounds.from_trajectories(
        [Trajectory(positions, np.arange(300) / 20, velocities)], top_percentile=100.0
    )
    assert top.speed_range[1] == pytest.approx(2.0)
    assert top.path_range[1] > bounds.path_range[1]

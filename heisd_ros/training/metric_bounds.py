"""The scale of the kinematic metric, from the motion in demonstrations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from heisd_ros.data.episode import Episode
from heisd_ros.data.source import Source
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.metric import MetricBounds, Trajectory


def bounds_of(sources: Sequence[Source], control_rate_hz: float) -> MetricBounds | None:
    """Computes the metric bounds of all demonstrations in some sources.

    Args:
        sources: Where the demonstrations are, with joint velocities.
        control_rate_hz: Rate of the joint states that the metric will be fed live.

    Returns:
        The bounds, or None if no recording has joint velocities (LIBERO's own have none).

    Raises:
        HeisdError: A source cannot be read.
        ValueError: No episode is long enough.
    """
    trajectories = list(_trajectories(sources, control_rate_hz))
    return MetricBounds.from_trajectories(trajectories) if trajectories else None


def _trajectories(sources: Sequence[Source], rate_hz: float) -> Iterable[Trajectory]:
    for source in sources:
        for place in range(len(source.outline())):
            episode = source.episode(place, ())
            if episode.joint_velocities is not None and len(episode) > 1:
                yield trajectory_of(episode, source.arm, rate_hz)


def trajectory_of(episode: Episode, arm: ArmKinematics, rate_hz: float) -> Trajectory:
    """Returns the tip's motion at every control step, even if only every n-th was recorded.

    The metric's window counts samples, so its bounds hold for one rate. Between recorded steps the
    joints follow the cubic that meets their positions and velocities.

    Args:
        episode: With joint velocities.
        arm: Kinematics of the arm that made it.
        rate_hz: Control rate of the recording and of the trajectory.
    """
    recorded = np.arange(len(episode)) * episode.stride / rate_hz
    joints = CubicHermiteSpline(recorded, episode.joint_positions, episode.joint_velocities)
    stamps = np.arange((len(episode) - 1) * episode.stride + 1) / rate_hz
    motions = [
        arm.tip_motion(q, dq) for q, dq in zip(joints(stamps), joints(stamps, 1), strict=True)
    ]
    positions, velocities = (np.stack(rows) for rows in zip(*motions, strict=True))
    return Trajectory(positions=positions, stamps=stamps, velocities=velocities)

"""The scale of the kinematic metric, from the motion in demonstrations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from heisd_ros.data.episode import Episode
from heisd_ros.data.libero_hdf5 import read_episodes
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.metric import MetricBounds, Trajectory
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.training.dataset import demonstration_files


def bounds_of(folders: Sequence[Path], control_rate_hz: float) -> MetricBounds | None:
    """Computes the metric bounds of all demonstrations in some folders.

    Args:
        folders: Folders of `*_demo.hdf5` files with joint velocities.
        control_rate_hz: Rate of the joint states that the metric will be fed live.

    Returns:
        The bounds, or None if no recording has joint velocities (LIBERO's own have none).

    Raises:
        DemonstrationError: A file cannot be read.
        ValueError: No episode is long enough.
    """
    trajectories = list(_trajectories(folders, control_rate_hz))
    return MetricBounds.from_trajectories(trajectories) if trajectories else None


def _trajectories(folders: Sequence[Path], rate_hz: float) -> Iterable[Trajectory]:
    arm = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
    for path in demonstration_files(folders):
        for episode in read_episodes(path, views=()):
            if episode.joint_velocities is not None and len(episode) > 1:
                yield trajectory_of(episode, arm, rate_hz)


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

"""The tip's motion between recorded steps, and the metric's bounds from it."""

from __future__ import annotations

import numpy as np
import pytest
from support.episodes import episode

from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.data.open_sources import Reading, open_sources
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.training.metric_bounds import bounds_of, trajectory_of

ARM = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
RATE_HZ = 20.0


def swing(stamps):
    """A smooth motion: positions and velocities of the 7 joints at each stamp."""
    rest = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, 0.8])
    phase = np.outer(stamps, np.linspace(1.0, 2.0, 7))
    return rest + 0.2 * np.sin(phase), 0.2 * np.linspace(1.0, 2.0, 7) * np.cos(phase)


def recording(steps, stride):
    positions, velocities = swing(np.arange(steps) * stride / RATE_HZ)
    return episode(
        steps=steps, stride=stride, joint_positions=positions, joint_velocities=velocities
    )


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_control_step_is_there_whatever_was_recorded(stride):
    trajectory = trajectory_of(recording(10, stride), ARM, RATE_HZ)
    stamps = np.arange(9 * stride + 1) / RATE_HZ
    np.testing.assert_allclose(trajectory.stamps, stamps)
    joints, speeds = swing(stamps)
    tips = [ARM.forward(q).position for q in joints]
    twists = [ARM.twist(q, dq)[:3] for q, dq in zip(joints, speeds, strict=True)]
    np.testing.assert_allclose(trajectory.positions, tips, atol=1e-4)
    np.testing.assert_allclose(trajectory.velocities, twists, atol=2e-3)


def write(folder, *episodes):
    writer = LiberoWriter(folder / "a_demo.hdf5", "swing", "x.bddl", {})
    for seed, recorded in enumerate(episodes):
        writer.add(recorded, seed, np.zeros((len(recorded), 4)), "")


def bounds(*folders):
    return bounds_of(open_sources(folders, Reading()), RATE_HZ)


def test_bounds_of_sparse_and_dense_recordings_agree(tmp_path):
    found = []
    for stride, steps in ((1, 101), (2, 51)):
        write(tmp_path / str(stride), recording(steps, stride))
        found.append(bounds(tmp_path / str(stride)))
    dense, sparse = found
    for name in ("radius_range", "path_range", "speed_range"):
        np.testing.assert_allclose(getattr(sparse, name), getattr(dense, name), rtol=0.02)
    assert sparse.boundary == pytest.approx(dense.boundary, abs=0.02)


def test_bounds_are_those_of_all_folders_together(tmp_path):
    write(tmp_path / "long", recording(101, 1))
    write(tmp_path / "short", recording(40, 1))
    write(tmp_path / "both", recording(101, 1), recording(40, 1))
    apart = bounds(tmp_path / "long", tmp_path / "short")
    assert apart == bounds(tmp_path / "both")
    assert apart != bounds(tmp_path / "long")


def test_recordings_without_velocities_have_no_bounds(tmp_path):
    write(tmp_path, episode(joint_velocities=None))
    assert bounds(tmp_path) is None

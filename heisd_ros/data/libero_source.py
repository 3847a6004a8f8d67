"""LIBERO's and robomimic's HDF5 files as a `Source`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heisd_ros.data.episode import Episode
from heisd_ros.data.libero_hdf5 import VIEWS, read_episode, read_episodes
from heisd_ros.data.report import Outline, ReadReport
from heisd_ros.data.source import Prepare, whole
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf

ROBOT = "panda"
"""LIBERO's demonstrations are a Panda's."""


class LiberoSource:
    """A `Source`: one `*_demo.hdf5`.

    Args:
        path: The file.
        rate_hz: Control rate of the recording; the files do not say.
    """

    def __init__(self, path: Path, rate_hz: float = 0.0) -> None:
        self._path = path
        # The folder tells apart two recordings of one task.
        self.label = f"{path.parent.name}/{path.name}"
        self.robot, self.cameras = ROBOT, tuple(VIEWS)
        self.arm = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
        self.rate_hz = rate_hz
        self.report = ReadReport()

    def outline(self) -> list[Outline]:
        """See `Source`.

        Raises:
            DemonstrationError: The file cannot be read.
        """
        return [
            Outline(episode.instruction, len(episode), episode.init_state)
            for episode in read_episodes(self._path, ())
        ]

    def episode(self, number: int, views: Sequence[str], prepare: Prepare = whole) -> Episode:
        """See `Source`.

        Raises:
            DemonstrationError: The file cannot be read, or has none of the views.
        """
        episode = read_episode(self._path, number, tuple(views))
        prepared = {
            view: np.stack([prepare(picture) for picture in pictures])
            for view, pictures in episode.images.items()
        }
        return replace(episode, images=prepared)

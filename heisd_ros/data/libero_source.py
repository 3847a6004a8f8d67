"""LIBERO's and robomimic's HDF5 files as a `Source`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heisd_ros.data.demo_files import CLOSED, VIEWS, open_demos, read_episode
from heisd_ros.data.episode import Episode
from heisd_ros.data.joint_check import JointCheck
from heisd_ros.data.read_report import Outline, ReadReport
from heisd_ros.data.source import Prepare, whole
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf

USUAL_RATE_HZ = 20.0
ROBOT = "panda"
"""The robot of LIBERO's demonstrations."""


class LiberoSource:
    """A `Source`: one HDF5 file.

    Args:
        path: The file.
        rate_hz: Control rate of the recording; the files do not say.
        told: The instruction, used if neither the file nor its name holds it.
    """

    def __init__(self, path: Path, rate_hz: float = 0.0, told: str = "") -> None:
        self._path, self._told = path, told
        # The folder distinguishes two recordings of one task.
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
        check, outline = JointCheck(self.arm), []
        self.report = report = ReadReport()
        with open_demos(self._path, self._told) as file:
            for number in range(len(file.demos)):
                episode = file.episode(number, ())
                outline.append(
                    Outline(
                        episode.instruction,
                        len(episode),
                        episode.init_state,
                        outcome=episode.outcome,
                    )
                )
                step = episode.stride / (self.rate_hz or USUAL_RATE_HZ)
                check.add(
                    episode.joint_positions,
                    np.arange(len(episode), dtype=np.float64) * step,
                    f"episode {number}, ",
                )
            if file.cut:
                report.dropped[f"demonstration without {CLOSED!r}: its recording was cut off"] = (
                    file.cut
                )
            report.remarks = file.remarks
        report.warnings = check.lines()
        report.unusable = check.unusable
        return outline

    def episode(self, number: int, views: Sequence[str], prepare: Prepare = whole) -> Episode:
        """See `Source`.

        Raises:
            DemonstrationError: The file cannot be read, or has none of the views.
        """
        episode = read_episode(self._path, number, tuple(views), self._told)
        prepared = {
            view: np.stack([prepare(picture) for picture in pictures])
            for view, pictures in episode.images.items()
        }
        return replace(episode, images=prepared)

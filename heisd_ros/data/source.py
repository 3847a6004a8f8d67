"""The protocol of everything that episodes are read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from heisd_ros.data.episode import Episode
from heisd_ros.data.read_report import Outline, ReadReport
from heisd_ros.kinematics.arm import ArmKinematics

Prepare = Callable[[np.ndarray], np.ndarray]
"""(H, W, 3) uint8 RGB to what is kept of a picture, for instance a smaller one."""


def whole(picture: np.ndarray) -> np.ndarray:
    """Returns a picture unchanged: the default of `Prepare`."""
    return picture


class Source(Protocol):
    """Episodes of synchronised steps: images, joints, end effector, action, instruction.

    The end effector's pose is not stored: `arm` gives it from the joints, as everywhere else.

    Attributes:
        label: Its name in a database's provenance, without local folders.
        robot: Name of the robot.
        arm: Kinematics of the robot.
        cameras: Names of its images: topics, features or views.
        rate_hz: Control rate, Hz; 0: unknown, the model's is used.
        report: What was left out and why; complete after `outline`.
    """

    label: str
    robot: str
    arm: ArmKinematics
    cameras: tuple[str, ...]
    rate_hz: float
    report: ReadReport

    def outline(self) -> list[Outline]:
        """Lists every episode without its contents.

        Raises:
            HeisdError: The source cannot be read.
        """
        ...

    def episode(self, number: int, views: Sequence[str], prepare: Prepare = whole) -> Episode:
        """Reads one episode; only that one is held in memory.

        Args:
            number: Index into `outline`.
            views: Names of the camera views, in the model's order, which is that of `cameras`
                unless these are named so; none: no pictures are read.
            prepare: Applied to each picture as it is read.

        Raises:
            HeisdError: The source cannot be read, or lacks one of the views.
        """
        ...


@dataclass(frozen=True)
class Item:
    """An episode of a source, before it is read.

    Attributes:
        source: The source that holds it.
        place: Index into the source's outline.
        outline: Its outline.
    """

    source: Source
    place: int
    outline: Outline

    @property
    def name(self) -> str:
        """Names the episode in messages."""
        return f"{self.source.label}, episode {self.place}"

    def frames(self, every: int) -> int:
        """Number of entries that the episode gives if every n-th frame is taken."""
        return -(-self.outline.steps // every)

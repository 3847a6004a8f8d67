"""Detects repeated pictures: a frozen camera keeps sending its last one. Imports no ROS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from heisd_ros.control.inputs import IngestLimits


@dataclass
class _Content:
    """A picture that may be repeated.

    Attributes:
        data: Its bytes.
        positions: (n,), rad, where the joints were when it was taken; None until that is known.
        motion: How far a joint has moved since, rad.
        repeats: How often it was repeated while the arm was commanded to move.
    """

    data: Any
    positions: np.ndarray | None
    motion: float = 0.0
    repeats: int = 0


class FrozenPicture:
    """Tracks the motion since the picture of a view last changed.

    It is updated only when a picture arrives: between two pictures the joints may be ahead. A
    frozen picture stays frozen until it changes, although the arm, being held, no longer moves.
    """

    def __init__(self) -> None:
        self._content: _Content | None = None

    def note(
        self,
        data: Any,
        positions: np.ndarray,
        moving: bool,
        taken_at: np.ndarray | None,
        way: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> None:
        """Adds the picture that arrived.

        Args:
            data: Its bytes.
            positions: (n,), rad, where the joints are.
            moving: Whether the arm is commanded to move.
            taken_at: (n,), rad, where they were by the picture's stamp. None where its joint state
                is still to come: the newest one may be far away, from before a simulation's reset.
            way: `ArmKinematics.way` of the arm.
        """
        last = self._content
        if last is None or not _same(last.data, data):
            self._content = _Content(data, taken_at)
            return
        if last.positions is None:
            last.positions = positions
        last.motion = max(last.motion, float(np.abs(way(last.positions, positions)).max()))
        last.repeats += moving

    def fault(self, limits: IngestLimits) -> str | None:
        """Returns why the picture counts as frozen; None if it does not."""
        content = self._content
        if content is None:
            return None
        if 0.0 < limits.frozen_motion_rad < content.motion:
            return f"pixels unchanged while a joint moved {content.motion:.2f} rad"
        if 0 < limits.frozen_images <= content.repeats:
            return f"pixels unchanged in {content.repeats} pictures while the arm was to move"
        return None


def _same(one: Any, other: Any) -> bool:
    """Whether two pictures have the same bytes."""
    return np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8))

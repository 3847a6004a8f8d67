"""Pictures that come again: a camera that froze shows what was. Knows no ROS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from heisd_ros.control.inputs import IngestLimits


@dataclass
class _Content:
    """A picture that may come again.

    Attributes:
        data: Its bytes.
        positions: (n,), rad, where the joints were when it was new.
        motion: How far a joint went since, rad.
        repeats: How often it came again while the arm was commanded to move.
    """

    data: Any
    positions: np.ndarray
    motion: float = 0.0
    repeats: int = 0


class FrozenPicture:
    """Notes what happened since the picture of a view last changed.

    Looked at only when a picture arrives: between two pictures the joints may be ahead. A frozen
    picture stays frozen until it changes, though the arm, being held, moves no more.
    """

    def __init__(self) -> None:
        self._content: _Content | None = None

    def note(self, data: Any, positions: np.ndarray, moving: bool) -> None:
        """Takes the picture that arrived.

        Args:
            data: Its bytes.
            positions: (n,), rad, where the joints are.
            moving: Whether the arm is commanded to move.
        """
        last = self._content
        if last is None or not _same(last.data, data):
            self._content = _Content(data, positions)
        else:
            last.motion = max(last.motion, float(np.abs(positions - last.positions).max()))
            last.repeats += moving

    def fault(self, limits: IngestLimits) -> str | None:
        """Why the picture counts as frozen; None where it does not."""
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

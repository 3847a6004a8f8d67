"""Samples a few evenly spaced pictures from a recording of unknown length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 16


@dataclass(frozen=True)
class Frame:
    """Pictures of one time.

    Attributes:
        at: ns on the bag's clock since the replay began.
        images: (H, W, 3) uint8 RGB, one per view.
    """

    at: int
    images: tuple[NDArray[np.uint8], ...]


class Frames:
    """Keeps every n-th frame; n doubles whenever there are too many."""

    def __init__(self) -> None:
        self.kept: list[Frame] = []
        self._every, self._count = 1, 0

    def add(self, frame: Frame) -> None:
        """Adds the next frame."""
        if self._count % self._every == 0:
            self.kept.append(frame)
        self._count += 1
        if len(self.kept) > MOST:
            self.kept = self.kept[::2]
            self._every *= 2

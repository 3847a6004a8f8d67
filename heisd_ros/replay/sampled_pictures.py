"""A few pictures of a recording, evenly spread, though nobody knows beforehand how long it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 16


@dataclass(frozen=True)
class Frame:
    """Pictures of one moment.

    Attributes:
        at: ns on the bag's clock since the replay began.
        images: (H, W, 3) uint8 RGB, one a view.
    """

    at: int
    images: tuple[NDArray[np.uint8], ...]


class Frames:
    """Keeps every n-th of what it is given; n doubles whenever that has become too many."""

    def __init__(self) -> None:
        self.kept: list[Frame] = []
        self._every, self._count = 1, 0

    def add(self, frame: Frame) -> None:
        """Takes the next."""
        if self._count % self._every == 0:
            self.kept.append(frame)
        self._count += 1
        if len(self.kept) > MOST:
            self.kept = self.kept[::2]
            self._every *= 2

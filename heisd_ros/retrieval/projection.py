"""Projection of keys to a few numbers, to find the candidates of a search quickly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Projection:
    """Maps keys to principal coordinates, whose distances order entries almost as keys do.

    The rest of a key is ignored: its length as one more coordinate would rank average entries
    before one that equals the query (on the shipped model's keys it lost more of the best entries,
    at every number of components).

    Attributes:
        mean: [D] float32, the mean key.
        components: [C, D] float32, orthonormal rows, in order of falling variance.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    @property
    def size(self) -> int:
        """D, the numbers in a key."""
        return len(self.mean)

    @property
    def kept(self) -> int:
        """C, the number of principal coordinates."""
        return len(self.components)

    def __call__(self, keys: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps keys [..., D] to principal coordinates [..., C]."""
        return np.asarray((keys - self.mean) @ self.components.T, dtype=np.float32)

    def truncated(self, kept: int) -> Projection:
        """Returns the projection to the first `kept` components."""
        return Projection(self.mean, self.components[:kept])

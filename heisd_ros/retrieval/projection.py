"""Keys in few numbers, to find the candidates of a search quickly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Projection:
    """Keys -> their principal coordinates, whose distances order entries almost as keys do.

    What a key has beyond them is ignored: its length as one more coordinate would rank entries
    that are nothing special before one that equals the query (on the shipped model's keys it lost
    more of the best entries, at every number of components).

    Attributes:
        mean: [D] float32.
        components: [C, D] float32, orthonormal rows, the most telling first.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    @property
    def size(self) -> int:
        """D, numbers in a key."""
        return len(self.mean)

    @property
    def kept(self) -> int:
        """C, principal coordinates."""
        return len(self.components)

    def __call__(self, keys: NDArray[np.float32]) -> NDArray[np.float32]:
        """[..., D] -> [..., C]."""
        return np.asarray((keys - self.mean) @ self.components.T, dtype=np.float32)

    def truncated(self, kept: int) -> Projection:
        """The same with the first `kept` components only."""
        return Projection(self.mean, self.components[:kept])

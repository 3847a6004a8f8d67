"""Keys in one byte a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEVELS = 255


@dataclass(frozen=True)
class Quantiser:
    """Each number of a key in 256 steps over the range that it has in the database.

    Attributes:
        low: [D] float32, what code 0 stands for.
        step: [D] float32, the difference between two codes.
    """

    low: NDArray[np.float32]
    step: NDArray[np.float32]

    @classmethod
    def of(cls, low: NDArray[np.float32], high: NDArray[np.float32]) -> Quantiser:
        """The quantiser of numbers between [D] and [D]."""
        return cls(low.astype(np.float32), ((high - low) / _LEVELS).astype(np.float32))

    def encode(self, keys: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Keys [N, D] -> codes [N, D]; numbers outside the range get its nearer end."""
        step = np.where(self.step > 0.0, self.step, 1.0)
        codes = np.rint((keys - self.low) / step)
        return np.clip(codes, 0, _LEVELS).astype(np.uint8)

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Codes [..., D] -> keys [..., D], each number within half a step."""
        keys: NDArray[np.float32] = self.low + self.step * codes
        return keys

    def lengths(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Lengths [N] of coded keys [N, D]: near one, and not quite."""
        return np.linalg.norm(self.decode(codes), axis=-1)

    def cosines(
        self, codes: NDArray[Any], lengths: NDArray[np.float32], key: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Cosines [N] of coded keys and a key of unit length.

        Args:
            codes: [N, D].
            lengths: [N], of `lengths`; left out, they would be most of a cosine's error.
            key: [D].
        """
        products = codes.astype(np.float32) @ (self.step * key) + self.low @ key
        return np.clip(products / lengths, -1.0, 1.0)

"""Quantisation of keys to one byte per number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEVELS = 255


@dataclass(frozen=True)
class Quantiser:
    """Quantises each number of a key in 256 steps over its range in the database.

    Attributes:
        low: [D] float32, the value of code 0.
        step: [D] float32, the difference between two codes.
    """

    low: NDArray[np.float32]
    step: NDArray[np.float32]

    @classmethod
    def of(cls, low: NDArray[np.float32], high: NDArray[np.float32]) -> Quantiser:
        """Makes the quantiser for numbers from `low` [D] to `high` [D]."""
        return cls(low.astype(np.float32), ((high - low) / _LEVELS).astype(np.float32))

    def encode(self, keys: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Encodes keys [N, D] as codes [N, D]; numbers outside the range are clipped to it."""
        step = np.where(self.step > 0.0, self.step, 1.0)
        codes = np.rint((keys - self.low) / step)
        return np.clip(codes, 0, _LEVELS).astype(np.uint8)

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Decodes codes [..., D] to keys [..., D], each number within half a step."""
        keys: NDArray[np.float32] = self.low + self.step * codes
        return keys

    def lengths(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the lengths [N] of coded keys [N, D], which are close to 1 but not exactly 1."""
        return np.linalg.norm(self.decode(codes), axis=-1)

    def cosines(
        self, codes: NDArray[Any], lengths: NDArray[np.float32], key: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Returns the cosines [N] of coded keys with a key of unit length.

        Args:
            codes: [N, D], the coded keys.
            lengths: [N], from `lengths`; without them most of a cosine's error would remain.
            key: [D], the key.
        """
        products = codes.astype(np.float32) @ (self.step * key) + self.low @ key
        return np.clip(products / lengths, -1.0, 1.0)

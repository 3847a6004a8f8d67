"""Action tokens: token ids <-> bins <-> normalised actions <-> robot actions.

OpenVLA writes each of the 7 action numbers as one of the last 256 ids of the real vocabulary. Of
linspace(-1, 1, 256) the 255 intervals' centres are what a token decodes to; the id counts downwards
from the end of the vocabulary (upstream ``predict_action`` and ``ActionTokenizer``, c8f03f4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heisd_ros.families.openvla.config import ACTION_BINS, ACTION_DIMENSIONS
from heisd_ros.files.typed import typed

_EDGES = np.linspace(-1.0, 1.0, ACTION_BINS)
BIN_CENTRES: NDArray[np.float64] = (_EDGES[:-1] + _EDGES[1:]) / 2.0
"""What each of the 255 bins decodes to, in [-1, 1]."""


@dataclass(frozen=True)
class ActionTokenizer:
    """Token ids of normalised actions and back, for any shape of array.

    Attributes:
        vocab_size: the real vocabulary size, without padding rows.
    """

    vocab_size: int

    def encode(self, normalised: ArrayLike) -> NDArray[np.int64]:
        """Normalised actions, clipped to [-1, 1] -> token ids of the same shape."""
        clipped = np.clip(np.asarray(normalised, dtype=np.float64), -1.0, 1.0)
        return self.vocab_size - np.digitize(clipped, _EDGES)

    def bins(self, tokens: ArrayLike) -> NDArray[np.int64]:
        """Token ids -> bins 0..254; an id that is no action clips to the nearer end."""
        return np.clip(self.vocab_size - np.asarray(tokens) - 1, 0, len(BIN_CENTRES) - 1)

    def decode(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Token ids -> normalised actions, the centres of their bins."""
        return BIN_CENTRES[self.bins(tokens)]


@dataclass(frozen=True)
class ActionStatistics:
    """The range of each action dimension in the demonstrations (``norm_stats[key]["action"]``).

    Attributes:
        q01: [7] 1st percentile, robot units.
        q99: [7] 99th percentile, robot units.
        mask: [7] true where an action is scaled; false passes through (gripper).
    """

    q01: tuple[float, ...]
    q99: tuple[float, ...]
    mask: tuple[bool, ...] = (True,) * ACTION_DIMENSIONS

    def __post_init__(self) -> None:
        for name in ("q01", "q99", "mask"):
            if len(getattr(self, name)) != ACTION_DIMENSIONS:
                raise ValueError(
                    f"action statistics {name} has {len(getattr(self, name))} numbers; "
                    f"{ACTION_DIMENSIONS} are needed"
                )
        if not np.isfinite([self.q01, self.q99]).all():
            raise ValueError(f"action statistics q01 {self.q01}, q99 {self.q99}: must be finite")
        if any(low > high for low, high in zip(self.q01, self.q99, strict=True)):
            raise ValueError(f"action statistics q01 {self.q01} exceeds q99 {self.q99}")

    @classmethod
    def from_dict(cls, statistics: Mapping[str, Any]) -> ActionStatistics:
        """Read ``{"q01": [...], "q99": [...], "mask": [...]}``; without a mask all are scaled.

        Raises:
            ValueError: a range is missing or malformed.
        """
        for name in ("q01", "q99"):
            if name not in statistics:
                raise ValueError(f"action statistics lack {name!r}; given are {sorted(statistics)}")
        given = {name: statistics[name] for name in ("q01", "q99", "mask") if name in statistics}
        return typed(cls, given)

    def to_dict(self) -> dict[str, Any]:
        """The inverse of `from_dict`."""
        return {"q01": list(self.q01), "q99": list(self.q99), "mask": list(self.mask)}

    def unnormalise(self, normalised: ArrayLike) -> NDArray[np.float64]:
        """[..., 7] in [-1, 1] -> robot units, where the mask is true."""
        x = np.asarray(normalised, dtype=np.float64)
        low, high = np.asarray(self.q01), np.asarray(self.q99)
        return np.where(self.mask, 0.5 * (x + 1) * (high - low) + low, x)

    def normalise(self, action: ArrayLike) -> NDArray[np.float64]:
        """[..., 7] in robot units -> clipped to [-1, 1]; a range of no width gives 0."""
        x = np.asarray(action, dtype=np.float64)
        low, high = np.asarray(self.q01), np.asarray(self.q99)
        span = np.where(high > low, high - low, 1.0)
        scaled = np.where(high > low, 2.0 * (x - low) / span - 1.0, 0.0)
        return np.clip(np.where(self.mask, scaled, x), -1.0, 1.0)

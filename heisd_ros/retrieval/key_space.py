"""How a database stores keys: few coordinates to search by, one byte a number to compare by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heisd_ros.retrieval.arrays import check_finite, map_array
from heisd_ros.retrieval.projection import Projection
from heisd_ros.retrieval.quantiser import Quantiser

_MEAN, _COMPONENTS, _LOW, _STEP = "mean.npy", "components.npy", "low.npy", "step.npy"


@dataclass(frozen=True)
class KeySpace:
    """What all keys of a database have in common.

    Attributes:
        projection: keys to the coordinates that candidates are found by.
        quantiser: keys to the codes that candidates are ordered by.
    """

    projection: Projection
    quantiser: Quantiser

    @classmethod
    def as_stored(cls, projection: Projection, quantiser: Quantiser) -> KeySpace:
        """The same to the digits that `save` keeps, so that entries are made with what is read."""
        components = projection.components.astype("<f2").astype(np.float32)
        return cls(Projection(projection.mean, components), quantiser)

    def save(self, folder: Path) -> None:
        """Writes four arrays."""
        np.save(folder / _MEAN, self.projection.mean.astype("<f4"))
        np.save(folder / _COMPONENTS, self.projection.components.astype("<f2"))
        np.save(folder / _LOW, self.quantiser.low.astype("<f4"))
        np.save(folder / _STEP, self.quantiser.step.astype("<f4"))

    @classmethod
    def load(cls, folder: Path, size: int, kept: int) -> KeySpace:
        """Reads what `save` wrote, into memory: every search needs all of it.

        Args:
            folder: the database.
            size: numbers in a key.
            kept: principal coordinates.

        Raises:
            DatabaseError: an array is missing, has another shape or type, or is not finite.
        """
        vectors = {
            name: np.array(map_array(folder / name, (size,), "<f4"))
            for name in (_MEAN, _LOW, _STEP)
        }
        components = np.array(map_array(folder / _COMPONENTS, (kept, size), "<f2"), np.float32)
        for name, array in (*vectors.items(), (_COMPONENTS, components)):
            check_finite(folder / name, array)
        return cls(Projection(vectors[_MEAN], components), Quantiser(vectors[_LOW], vectors[_STEP]))

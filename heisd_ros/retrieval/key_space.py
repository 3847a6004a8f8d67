"""How a database stores keys: a few coordinates to search by, 8-bit codes to compare by."""

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
    """The projection and the quantiser of all keys of a database.

    Attributes:
        projection: maps keys to the coordinates that candidates are found by.
        quantiser: maps keys to the codes that candidates are ordered by.
    """

    projection: Projection
    quantiser: Quantiser

    @classmethod
    def as_stored(cls, projection: Projection, quantiser: Quantiser) -> KeySpace:
        """Rounds both to what `save` stores, so that writing and reading use the same numbers."""
        components = projection.components.astype("<f2").astype(np.float32)
        return cls(Projection(projection.mean, components), quantiser)

    def save(self, folder: Path) -> None:
        """Writes the four arrays of projection and quantiser into a database's folder."""
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
            kept: number of principal coordinates.

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

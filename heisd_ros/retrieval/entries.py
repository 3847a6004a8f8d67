"""What a database keeps of each demonstrated frame, and what a search gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import DatabaseError


class Column(NamedTuple):
    """One array of a shard.

    Attributes:
        row: shape of one entry.
        disk: type in its file.
        memory: type in `Matches`.
    """

    row: tuple[int, ...]
    disk: str
    memory: str


COLUMNS = {
    "actions": Column((7,), "<f4", "f4"),
    "tokens": Column((7,), "<i4", "i8"),
    "episodes": Column((), "<i4", "i8"),
    "steps": Column((), "<i4", "i8"),
}
"""The arrays of a shard by name; each is one ``.npy`` file with N rows."""


@dataclass(frozen=True)
class Entries:
    """N demonstrated frames of one task.

    Attributes:
        keys: (N, D) what frames are compared by, of unit length.
        actions: (N, 7) the demonstrated action, robot units.
        tokens: (N, 7) the model's own greedy token ids for that frame.
        episodes: (N,) number of the episode, unique in the database.
        steps: (N,) control step in its episode.

    Raises:
        DatabaseError: there is no entry, or an array has another shape or is not finite.
    """

    keys: NDArray[np.float32]
    actions: NDArray[np.floating]
    tokens: NDArray[np.integer]
    episodes: NDArray[np.integer]
    steps: NDArray[np.integer]

    def __post_init__(self) -> None:
        """Validates."""
        number = len(self.keys)
        if number == 0:
            raise DatabaseError("a shard without entries; give demonstrations of its task")
        shapes = {"keys": self.keys.shape[1:]}
        shapes |= {name: column.row for name, column in COLUMNS.items()}
        for name, row in shapes.items():
            array = getattr(self, name)
            if array.shape != (number, *row):
                raise DatabaseError(f"{name} has shape {array.shape}; {(number, *row)} is needed")
            if not np.isfinite(array).all():
                where = np.unique(np.argwhere(~np.isfinite(array))[:, 0])[:5].tolist()
                raise DatabaseError(
                    f"{name} of entries {where} are not finite; "
                    "check the demonstrations and the model's weights"
                )

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.keys)

    @classmethod
    def join(cls, parts: list[Entries]) -> Entries:
        """All entries of some parts, in their order."""
        names = [field.name for field in fields(cls)]
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


@dataclass(frozen=True)
class Matches:
    """K entries of a shard, best first.

    Attributes:
        similarity: (K,) float32 cosine with the query.
        actions: (K, 7) float32 demonstrated action, robot units.
        tokens: (K, 7) int64 the model's own greedy token ids for that frame.
        episodes: (K,) int64 number of the episode, unique in the database.
        steps: (K,) int64 control step in its episode.
    """

    similarity: NDArray[np.float32]
    actions: NDArray[np.float32]
    tokens: NDArray[np.int64]
    episodes: NDArray[np.int64]
    steps: NDArray[np.int64]

    def __len__(self) -> int:
        """K."""
        return len(self.similarity)

    @classmethod
    def gather(
        cls,
        columns: Mapping[str, NDArray[Any]],
        rows: NDArray[np.int64],
        similarity: NDArray[np.float32],
    ) -> Matches:
        """Copies some rows out of a shard's arrays.

        Args:
            columns: arrays by the names of `COLUMNS`.
            rows: (K,) which entries, best first.
            similarity: (K,) of each.
        """
        taken = {
            name: np.array(columns[name][rows], dtype=column.memory)
            for name, column in COLUMNS.items()
        }
        return cls(similarity=similarity, **taken)

    @classmethod
    def best_of(cls, parts: list[Matches], k: int) -> Matches:
        """The k most similar of several searches' matches; the earlier part's of equal ones."""
        order = np.argsort(-np.concatenate([part.similarity for part in parts]), kind="stable")[:k]
        names = [entry.name for entry in fields(cls)]
        joined = {n: np.concatenate([getattr(part, n) for part in parts]) for n in names}
        return cls(**{n: array[order] for n, array in joined.items()})

"""What a database stores of each demonstrated frame, and what a search returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import DatabaseError
from heisd_ros.files.typed import within

PADDING = -1
"""Fills the rows of shorter answers in an array of several answers."""


@dataclass(frozen=True)
class AnswerSize:
    """The size of the answer that an entry holds.

    Attributes:
        tokens: Tokens of the longest answer; shorter ones are padded with `PADDING`.
        numbers: Numbers of its actions: horizon times dimensions.
    """

    tokens: Annotated[int, within(1)]
    numbers: Annotated[int, within(1)]


class Column(NamedTuple):
    """One array of a shard.

    Attributes:
        width: the field of `AnswerSize` that is the length of one entry's row; None: one number.
        disk: type in its file.
        memory: type in `Matches`.
    """

    width: str | None
    disk: str
    memory: str

    def row(self, answer: AnswerSize) -> tuple[int, ...]:
        """Returns the shape of one entry."""
        return () if self.width is None else (getattr(answer, self.width),)


COLUMNS = {
    "actions": Column("numbers", "<f4", "f4"),
    "tokens": Column("tokens", "<i4", "i8"),
    "episodes": Column(None, "<i4", "i8"),
    "steps": Column(None, "<i4", "i8"),
}
"""The arrays of a shard by name; each is one ``.npy`` file with N rows."""


@dataclass(frozen=True)
class Entries:
    """N demonstrated frames of one task.

    Attributes:
        keys: (N, D) the vectors that frames are compared by, of unit length.
        actions: (N, A) the demonstrated actions, H of D numbers in a row, robot units.
        tokens: (N, T) the model's own greedy token ids for that frame, padded with `PADDING`.
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
        """Checks shapes and values; raises DatabaseError."""
        number = len(self.keys)
        if number == 0:
            raise DatabaseError("a shard without entries; give demonstrations of its task")
        for name in ("keys", *COLUMNS):
            array = getattr(self, name)
            wide = name == "keys" or COLUMNS[name].width is not None
            if len(array) != number or array.ndim != 1 + wide or 0 in array.shape:
                needed = f"({number}, {'one or more' if wide else ''})"
                raise DatabaseError(f"{name} has shape {array.shape}; {needed} is needed")
            if not np.isfinite(array).all():
                where = np.unique(np.argwhere(~np.isfinite(array))[:, 0])[:5].tolist()
                raise DatabaseError(
                    f"{name} of entries {where} are not finite; "
                    "check the demonstrations and the model's weights"
                )

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.keys)

    @property
    def answer(self) -> AnswerSize:
        """The size of their answers."""
        return AnswerSize(self.tokens.shape[1], self.actions.shape[1])

    @classmethod
    def join(cls, parts: list[Entries]) -> Entries:
        """Concatenates the entries of several parts, in their order."""
        names = [field.name for field in fields(cls)]
        return cls(**{n: joined(n, [getattr(part, n) for part in parts]) for n in names})


@dataclass(frozen=True)
class Matches:
    """K entries of a shard, best first.

    Attributes:
        similarity: (K,) float32 cosine with the query.
        actions: (K, A) float32 demonstrated actions, H of D numbers in a row, robot units.
        tokens: (K, T) int64 the model's own greedy token ids for that frame, padded.
        episodes: (K,) int64 number of the episode, unique in the database.
        steps: (K,) int64 control step in its episode.
    """

    similarity: NDArray[np.float32]
    actions: NDArray[np.float32]
    tokens: NDArray[np.int64]
    episodes: NDArray[np.int64]
    steps: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of entries that the search returned."""
        return len(self.similarity)

    @classmethod
    def gather(
        cls,
        columns: Mapping[str, NDArray[Any]],
        rows: NDArray[np.int64],
        similarity: NDArray[np.float32],
    ) -> Matches:
        """Copies rows of a shard's arrays.

        Args:
            columns: arrays by the names of `COLUMNS`.
            rows: (K,) row numbers of the entries, best first.
            similarity: (K,) similarity of each.
        """
        taken = {
            name: np.array(columns[name][rows], dtype=column.memory)
            for name, column in COLUMNS.items()
        }
        return cls(similarity=similarity, **taken)

    @classmethod
    def best_of(cls, parts: list[Matches], k: int) -> Matches:
        """Returns the k best of several searches' matches; of equal ones, the earlier part's."""
        order = np.argsort(-np.concatenate([part.similarity for part in parts]), kind="stable")[:k]
        names = [entry.name for entry in fields(cls)]
        all_of = {n: joined(n, [getattr(part, n) for part in parts]) for n in names}
        return cls(**{n: array[order] for n, array in all_of.items()})


def joined(name: str, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Concatenates a column of several parts; answers are padded to the longest one."""
    if name == "tokens":
        width = max(part.shape[1] for part in parts)
        parts = [widened(part, width) for part in parts]
    return np.concatenate(parts)


def widened(tokens: NDArray[Any], width: int) -> NDArray[Any]:
    """Pads answers (N, T) to (N, width)."""
    missing = width - tokens.shape[1]
    if not missing:
        return tokens
    return np.pad(tokens, ((0, 0), (0, missing)), constant_values=PADDING)

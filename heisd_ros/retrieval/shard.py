"""One task's shard of a database, and the search in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import DatabaseError
from heisd_ros.retrieval.arrays import RowsOnDisk, check_finite, map_array
from heisd_ros.retrieval.entries import COLUMNS, AnswerSize, Entries, Matches, joined
from heisd_ros.retrieval.index import Index
from heisd_ros.retrieval.key_space import KeySpace
from heisd_ros.retrieval.manifest import UNNAMED_ANSWER, ShardInfo
from heisd_ros.retrieval.quantiser import Quantiser

KEYS, LENGTHS = "keys.npy", "lengths.npy"
COORDINATES, GRAPH = "coordinates.npy", "index.faiss"


def candidates_of(k: int) -> int:
    """Returns how many candidates a search for k compares by full keys, in a large shard."""
    return max(64, 4 * k)


class Shard:
    """The demonstrated frames of one task.

    A search has two stages: candidates are found by a few coordinates and ordered by full keys.

    Attributes:
        grown: whether it has entries added after its database was built.
        instruction: the task, as its demonstrations word it.
        columns: its arrays by the names of `COLUMNS`, N rows each, mapped from disk.
    """

    grown = False

    def __init__(
        self,
        instruction: str,
        columns: Mapping[str, NDArray[Any]],
        keys: NDArray[Any] | RowsOnDisk,
        lengths: NDArray[np.float32],
        coordinates: NDArray[np.float16],
        space: KeySpace,
        index: Index,
    ) -> None:
        self.instruction = instruction
        self.columns = columns
        self._keys = keys
        self._lengths = lengths
        self._coordinates = coordinates
        self._space = space
        self._index = index

    @classmethod
    def open(
        cls, folder: Path, info: ShardInfo, space: KeySpace, answer: AnswerSize = UNNAMED_ANSWER
    ) -> Shard:
        """Maps a shard's arrays.

        Args:
            folder: the database.
            info: the shard's record in the manifest.
            space: the database's key space.
            answer: the size of its answers.

        Raises:
            DatabaseError: a file is missing or has another shape or type than the manifest says.
        """
        place, rows, projection = folder / info.folder, info.entries, space.projection
        keys_file = place / KEYS
        keys = RowsOnDisk(keys_file, map_array(keys_file, (rows, projection.size), "u1"))
        lengths = np.asarray(map_array(place / LENGTHS, (rows,), "<f4"))
        check_finite(place / LENGTHS, np.where(lengths > 0.0, lengths, np.nan))
        coordinates = map_array(place / COORDINATES, (rows, projection.kept), "<f2")
        columns = {
            # As plain arrays: indexing numpy's mapped ones takes several times as long.
            name: np.asarray(
                map_array(place / f"{name}.npy", (rows, *column.row(answer)), column.disk)
            )
            for name, column in COLUMNS.items()
        }
        index = (
            Index.read(place / GRAPH, coordinates.shape) if info.graph else Index.exact(coordinates)
        )
        return cls(info.instruction, columns, keys, lengths, coordinates, space, index)

    @classmethod
    def in_memory(
        cls, instruction: str, entries: Entries, space: KeySpace, before: Shard | None = None
    ) -> Shard:
        """Makes a shard of entries that are in no database; it is searched exhaustively.

        Args:
            instruction: their task.
            entries: the entries.
            space: key space of the database that is searched together with it.
            before: another shard in memory, whose entries come first.

        Raises:
            DatabaseError: the keys have another size than the database's.
        """
        keys, size = entries.keys, space.projection.size
        if keys.shape[1] != size:
            raise DatabaseError(
                f"keys have {keys.shape[1]} numbers, the database's {size}; both must be of one "
                "model"
            )
        # In half precision: codes would clip numbers outside the database's range.
        plain = Quantiser(np.zeros(size, np.float32), np.ones(size, np.float32))
        halves = keys.astype("<f2")
        parts = {
            "keys": halves,
            "lengths": plain.lengths(halves).astype("<f4"),
            "coordinates": space.projection(keys).astype("<f2"),
            **{name: np.asarray(getattr(entries, name), c.disk) for name, c in COLUMNS.items()},
        }
        if before is not None:
            old = {
                "keys": before._keys[np.arange(len(before))],
                "lengths": before._lengths,
                "coordinates": before._coordinates,
                **before.columns,
            }
            parts = {name: joined(name, [old[name], part]) for name, part in parts.items()}
        columns = {name: parts[name] for name in COLUMNS}
        coordinates = parts["coordinates"]
        shard = cls(
            instruction,
            columns,
            parts["keys"],
            parts["lengths"],
            coordinates,
            KeySpace(space.projection, plain),
            Index.exact(coordinates),
        )
        shard.grown = True
        return shard

    def __len__(self) -> int:
        """Number of entries in the shard."""
        return len(self._keys)

    def check_k(self, k: int) -> None:
        """Checks that the shard has k entries.

        Raises:
            DatabaseError: k is less than 1 or more than there are entries.
        """
        self._check_k(k, len(self), "entries")

    def search(self, key: NDArray[np.float32], k: int) -> Matches:
        """Finds the k entries most similar to a frame.

        Args:
            key: (D,) from `VLA.retrieval_key`, of unit length.
            k: number of entries.

        Raises:
            DatabaseError: k is less than 1 or more than there are entries, or the key has another
                size, is not finite or not of unit length.
        """
        self.check_k(k)
        self._check_key(key)
        query = self._space.projection(key)
        candidates = self._index.search(query, min(len(self), candidates_of(k)))
        return self._best(key, candidates, k)

    def neighbours(self, entry: int, k: int) -> Matches:
        """Finds the k entries most similar to one of the shard's own, from other episodes.

        This is what a search would find for that frame if its episode had not been demonstrated.

        Args:
            entry: row of the shard, from 0 to its length minus 1.
            k: number of entries.

        Raises:
            DatabaseError: k is less than 1 or more than there are entries of other episodes.
        """
        others = np.flatnonzero(self.columns["episodes"] != self.columns["episodes"][entry])
        self._check_k(k, len(others), f"entries of other episodes than that of entry {entry}")
        codes = self._keys[np.array([entry])][0]
        key = self._space.quantiser.decode(codes) / self._lengths[entry]
        query = self._space.projection(key)
        squares = np.square(self._coordinates[others].astype(np.float32) - query).sum(axis=1)
        nearest = np.argsort(squares, kind="stable")[: candidates_of(k)]
        return self._best(key, others[nearest], k)

    def clearance(self, matches: Matches) -> float:
        """Returns the control steps until the first of several entries changes its gripper.

        Just before an object is grasped or put down, millimetres count.

        Args:
            matches: entries; those of episodes that are not in this shard are left out.

        Returns:
            At least 1; infinite if no gripper changes again.
        """
        return min(map(self._until_change, matches.episodes, matches.steps), default=math.inf)

    def _until_change(self, episode: int, step: int) -> float:
        changes = self._gripper_changes.get(int(episode), np.empty(0))
        following = np.searchsorted(changes, step, side="right")
        return float(changes[following] - step) if following < len(changes) else math.inf

    @cached_property
    def _gripper_changes(self) -> dict[int, NDArray[np.int64]]:
        """Returns, by episode, the steps at which the demonstrated gripper command changes."""
        columns, changes = self.columns, {}
        for episode in np.unique(columns["episodes"]):
            rows = np.flatnonzero(columns["episodes"] == episode)
            rows = rows[np.argsort(columns["steps"][rows])]
            changed = np.flatnonzero(np.diff(columns["actions"][rows, -1])) + 1
            changes[int(episode)] = columns["steps"][rows[changed]].astype(np.int64)
        return changes

    def _best(self, key: NDArray[np.float32], candidates: NDArray[np.int64], k: int) -> Matches:
        """Returns the k best of the candidates, by their full keys."""
        cosines = self._space.quantiser.cosines(
            self._keys[candidates], self._lengths[candidates], key
        )
        best = np.argsort(-cosines, kind="stable")[:k]
        return Matches.gather(self.columns, candidates[best], cosines[best])

    def _check_k(self, k: int, most: int, what: str) -> None:
        if not 1 <= k <= most:
            raise DatabaseError(
                f"k is {k}, but the shard of {self.instruction!r} has {most} {what}; set "
                f"retrieval.k to 1 to {most}, or build the database from more demonstrations"
            )

    def _check_key(self, key: NDArray[np.float32]) -> None:
        size = self._space.projection.size
        if key.shape != (size,):
            raise DatabaseError(
                f"the key has shape {key.shape}, the database's have ({size},); search with "
                "VLA.retrieval_key of the model that it was built with"
            )
        length = float(np.linalg.norm(key))
        if not abs(length - 1.0) < 1e-2:  # false for NaN as well
            raise DatabaseError(
                f"the key has length {length}; VLA.retrieval_key gives unit length unless the "
                "model's features are not finite or all zero: check its images and its weights"
            )

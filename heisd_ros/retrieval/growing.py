"""A database with entries added after it was built, by this robot or from the fleet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import DatabaseError, GrowthError
from heisd_ros.instructions import normalise_instruction
from heisd_ros.kinematics.metric import MetricBounds
from heisd_ros.kinematics.motion import MetricKind
from heisd_ros.retrieval.database import (
    EXACT,
    Database,
    Matches,
    SearchableShard,
    nearest_shard,
)
from heisd_ros.retrieval.entries import Entries
from heisd_ros.retrieval.shard import Shard


class JointShard:
    """Several shards of one task, searched as one.

    Args:
        parts: at least one shard; the first one's instruction is used.
    """

    grown = True

    def __init__(self, parts: Sequence[SearchableShard]) -> None:
        self._parts = tuple(parts)
        self.instruction = self._parts[0].instruction

    def __len__(self) -> int:
        """Number of entries in all parts."""
        return sum(len(part) for part in self._parts)

    def search(self, key: NDArray[np.float32], k: int) -> Matches:
        """Finds the k entries of all parts that are most similar to a frame; as `Shard.search`.

        Raises:
            DatabaseError: as in `Shard.search`.
        """
        if not 1 <= k <= len(self):
            raise DatabaseError(
                f"k is {k}, but the shard of {self.instruction!r} has {len(self)} entries; set "
                f"retrieval.k to 1 to {len(self)}"
            )
        found = [part.search(key, min(k, len(part))) for part in self._parts]
        return Matches.best_of(found, k)

    def clearance(self, matches: Matches) -> float:
        """Returns the least clearance of all parts; as `Shard.clearance`."""
        return min(part.clearance(matches) for part in self._parts)


class GrowingStore:
    """A database and the entries added to it; the database's own files stay unchanged.

    Searches and additions may come from different threads: additions are atomic for a search, and
    a search never waits for one.

    Args:
        database: the database that was opened.
        frozen: why shards of the database may not grow; empty: they may. Shards of new tasks may
            be added in any case, since no calibration covers them.
        missing: called with each instruction that has no shard, at every search for it.
        least: number of entries that a search returns: smaller added shards are not found yet.
    """

    def __init__(
        self,
        database: Database,
        frozen: str = "",
        missing: Callable[[str], None] = lambda instruction: None,
        least: int = 1,
    ) -> None:
        self.database, self.frozen, self.missing = database, frozen, missing
        self.least = least
        self._built: dict[str, Shard] = {
            normalise_instruction(shard.instruction): shard for shard in database
        }
        self._added: dict[str, Shard] = {}
        self._lock = threading.Lock()
        # Replaced as a whole with a new number, so that cached lookups of the old one are not used.
        self._version: tuple[int, dict[str, SearchableShard]] = (0, dict(self._built))
        self._find = lru_cache(maxsize=256)(self._find_in)

    def __len__(self) -> int:
        """Number of entries in all shards."""
        return sum(len(shard) for shard in self._version[1].values())

    @property
    def added(self) -> int:
        """Number of entries besides the database's own."""
        return sum(len(shard) for shard in self._added.values())

    def holds(self, instruction: str) -> bool:
        """Whether there is a shard of exactly this task."""
        return normalise_instruction(instruction) in self._version[1]

    def shard_for(self, instruction: str) -> tuple[SearchableShard | None, str]:
        """Finds the shard of a task, and says how; as `Database.shard_for`."""
        shard, how = self._find(self._version[0], instruction)
        if shard is None:
            self.missing(instruction)
        return shard, how

    def bounds(self, kind: MetricKind) -> MetricBounds:
        """Returns the bounds of the database; as `Database.bounds`."""
        return self.database.bounds(kind)

    def add(self, instruction: str, entries: Entries) -> None:
        """Adds entries to the shard of a task.

        Args:
            instruction: the task.
            entries: new entries, made with the database's model.

        Raises:
            GrowthError: the database's shard of this task may not grow.
            DatabaseError: the entries don't fit the database.
        """
        name = normalise_instruction(instruction)
        built = self._built.get(name)
        if built is not None and self.frozen:
            raise GrowthError(f"the shard of {instruction!r} may not grow: {self.frozen}")
        held, given = self.database.manifest.answer.numbers, entries.answer.numbers
        if given != held:
            raise DatabaseError(f"actions have {given} numbers, the database's {held}")
        with self._lock:
            before = self._added.get(name)
            added = Shard.in_memory(instruction, entries, self.database.space, before)
            self._added = {**self._added, name: added}
            number, shards = self._version
            joint = added if built is None else JointShard([built, added])
            if len(joint) >= self.least:
                self._version = (number + 1, {**shards, name: joint})

    def _find_in(self, number: int, instruction: str) -> tuple[SearchableShard | None, str]:
        shards = self._version[1]
        shard = shards.get(normalise_instruction(instruction))
        return (shard, EXACT) if shard is not None else nearest_shard(instruction, shards)

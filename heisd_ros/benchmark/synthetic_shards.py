"""Synthetic keys on disk, task by task, since all of them may exceed the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.benchmark.synthetic_keys import SyntheticKeys
from heisd_ros.retrieval.entries import COLUMNS, Entries
from heisd_ros.retrieval.manifest import UNNAMED_ANSWER


class SyntheticShards(Mapping[str, Entries]):
    """Entries by instruction, read from disk on each access."""

    def __init__(self, folder: Path, sizes: Sequence[int]) -> None:
        self.folder, self.sizes = folder, tuple(sizes)

    @classmethod
    def generate(
        cls,
        folder: Path,
        keys: SyntheticKeys,
        sizes: Sequence[int],
        queries: int,
        say: Callable[[str], None],
    ) -> SyntheticShards:
        """Writes the keys and queries of all tasks.

        Args:
            folder: where they go; it must not exist.
            keys: generator of the keys.
            sizes: entries of each task.
            queries: of each task.
            say: called with progress messages.
        """
        folder.mkdir(parents=True)
        for number, entries in enumerate(sizes):
            say(f"keys of shard {number + 1} of {len(sizes)}")
            for name, array in vars(keys.task(number, entries, queries)).items():
                np.save(folder / f"{number:03d}.{name}.npy", array)
        return cls(folder, sizes)

    def read(self, number: int, name: str) -> NDArray[Any]:
        """Maps one array of a task's `TaskKeys` from disk."""
        array: NDArray[Any] = np.load(self.folder / f"{number:03d}.{name}.npy", mmap_mode="r")
        return array

    def __getitem__(self, instruction: str) -> Entries:
        """Returns the entries of a task; all but key, episode and step is zero."""
        number = int(instruction.removeprefix("task "))
        keys = np.array(self.read(number, "keys"))
        given = {name: self.read(number, name) for name in ("episodes", "steps")}
        zeros = {
            name: np.zeros((len(keys), *column.row(UNNAMED_ANSWER)), column.disk)
            for name, column in COLUMNS.items()
            if name not in given
        }
        return Entries(keys=keys, **zeros, **given)

    def __iter__(self) -> Iterator[str]:
        """Iterates over the instructions."""
        return (f"task {number:03d}" for number in range(len(self)))

    def __len__(self) -> int:
        """Returns the number of tasks."""
        return len(self.sizes)

    def blocks(self, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yields the first keys of all shards as one: number of the first key, and a block."""
        start = 0
        for number, entries in enumerate(self.sizes):
            keys = self.read(number, "keys")[: min(entries, size - start)]
            if len(keys) == 0:
                return
            yield start, keys
            start += len(keys)

    def asked(self, size: int, number: int) -> NDArray[np.float32]:
        """Returns queries [Q, D], evenly from the shards that `blocks` fully covers, or the first.

        Args:
            size: entries.
            number: the most queries.
        """
        whole = max(1, int(np.searchsorted(np.cumsum(self.sizes), size, side="right")))
        queries = np.concatenate([self.read(shard, "queries") for shard in range(whole)])
        return queries[:: max(1, len(queries) // number)][:number]

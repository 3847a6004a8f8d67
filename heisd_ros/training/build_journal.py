"""The progress of a database build, one file per episode, so that a killed build is resumed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from heisd_ros.errors import DatabaseError
from heisd_ros.files.atomic import replacing
from heisd_ros.files.work_folder import WorkFolder
from heisd_ros.kinematics.metric import Trajectory
from heisd_ros.retrieval.entries import Entries


@dataclass(frozen=True)
class Record:
    """The model's output for one episode.

    Attributes:
        label: The source.
        instruction: The task.
        entries: Its frames.
        trajectory: The tip's motion; None without joint velocities.
    """

    label: str
    instruction: str
    entries: Entries
    trajectory: Trajectory | None


class Journal(WorkFolder):
    """The folder `.NAME.building` beside a database, removed when the database is complete.

    It holds no manifest, so that it is never taken for a database. It is a context manager; one
    process may hold it at a time.

    Args:
        database: Folder of the database.
        plan: Inputs and options of the build, as JSON values; only the same plan is resumed.
    """

    def __init__(self, database: Path, plan: dict[str, Any]) -> None:
        folder = database.parent / f".{database.name}.building"
        super().__init__(folder, plan, DatabaseError, "build")

    def __enter__(self) -> Journal:
        """Locks the folder.

        Raises:
            DatabaseError: Another process has it, it is of another plan, or it cannot be written.
        """
        try:
            super().__enter__()
        except OSError as error:
            words = f"{self.folder} cannot be written: {error.strerror or error}"
            raise DatabaseError(words) from error
        return self

    def __contains__(self, number: int) -> bool:
        """Whether an episode is done."""
        return self._file(number).is_file()

    def save(self, number: int, record: Record) -> None:
        """Stores an episode atomically.

        Raises:
            OSError: There is no room.
        """
        arrays = {f.name: getattr(record.entries, f.name) for f in fields(Entries)}
        if record.trajectory is not None:
            motion = vars(record.trajectory).items()
            arrays |= {f"motion_{name}": row for name, row in motion if row is not None}
        about = json.dumps({"label": record.label, "instruction": record.instruction})
        with replacing(self._file(number)) as partial, partial.open("wb") as file:
            np.savez(file, about=np.array(about), **arrays)

    def load(self, number: int) -> Record:
        """Reads a stored episode.

        Raises:
            DatabaseError: Its file is damaged.
        """
        path = self._file(number)
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                entries = Entries(**{f.name: file[f.name] for f in fields(Entries)})
                motion = {
                    name.removeprefix("motion_"): file[name]
                    for name in file.files
                    if name.startswith("motion_")
                }
            trajectory = Trajectory(**motion) if motion else None
            return Record(about["label"], about["instruction"], entries, trajectory)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DatabaseError(
                f"{path} is damaged ({error}); remove it and build again: the rest is kept"
            ) from error

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"


class Shards(Mapping[str, Entries]):
    """Entries by instruction, read on access: those of one task are in memory at a time.

    Args:
        parts: For each instruction, functions that each load one part of its entries.
    """

    def __init__(self, parts: Mapping[str, list[Callable[[], Entries]]]) -> None:
        self._parts = parts

    def __getitem__(self, instruction: str) -> Entries:
        """Loads all entries of a task."""
        return Entries.join([load() for load in self._parts[instruction]])

    def __iter__(self) -> Iterator[str]:
        """Iterates over the instructions."""
        return iter(self._parts)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self._parts)

    def sample(self, share: float) -> list[Entries]:
        """Loads a share of each task's parts, evenly spaced and at least one of each."""
        chosen = []
        for parts in self._parts.values():
            count = max(1, round(share * len(parts)))
            places = np.linspace(0, len(parts), count, endpoint=False).astype(int)
            chosen.append(Entries.join([parts[place]() for place in places]))
        return chosen

"""What a build has done so far, an episode a file, so that a killed one goes on where it was."""

from __future__ import annotations

import fcntl
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from heisd_ros.errors import DatabaseError
from heisd_ros.files.atomic import replace_text, replacing
from heisd_ros.files.bounded import read_object
from heisd_ros.kinematics.metric import Trajectory
from heisd_ros.retrieval.entries import Entries

PLAN = "plan.json"


@dataclass(frozen=True)
class Record:
    """What the model made of one episode.

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


class Journal:
    """The folder `.NAME.building` beside a database, gone when that is complete.

    It holds no manifest, so that nothing takes it for a database. A context manager: one process
    has it at a time.

    Args:
        database: Where the database goes.
        plan: What is built from what, as JSON values; a build of another plan is not continued.
    """

    def __init__(self, database: Path, plan: dict[str, Any]) -> None:
        self.folder = database.parent / f".{database.name}.building"
        self._plan = json.loads(json.dumps(plan))

    def __enter__(self) -> Journal:
        """Takes the folder.

        Raises:
            DatabaseError: Another process has it, or it is of another plan.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check_plan()
        except BaseException as error:
            self._lock.close()
            if isinstance(error, BlockingIOError):
                raise DatabaseError(f"{self.folder} is in use: another process builds") from error
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def __contains__(self, number: int) -> bool:
        """Whether an episode is done."""
        return self._file(number).is_file()

    def save(self, number: int, record: Record) -> None:
        """Keeps an episode; a process that is killed meanwhile has not begun it.

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
        """An episode that was kept.

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

    def remove(self) -> None:
        """Removes the folder: the database is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def _check_plan(self) -> None:
        path = self.folder / PLAN
        if not path.is_file():
            replace_text(path, json.dumps(self._plan, indent=1))
            return
        found = read_object(path, lambda text: DatabaseError(f"{text}; remove {self.folder}"))
        if found != self._plan:
            other = sorted(key for key in self._plan if found.get(key) != self._plan[key])
            raise DatabaseError(
                f"{self.folder} is half of a build with other {', '.join(other)}; give the same "
                "options to go on with it, or remove it to begin anew"
            )


class Shards(Mapping[str, Entries]):
    """Entries by instruction, each read when it is asked for: one is in memory at a time.

    Args:
        parts: For each instruction, what its entries are made of; each call loads one part.
    """

    def __init__(self, parts: Mapping[str, list[Callable[[], Entries]]]) -> None:
        self._parts = parts

    def __getitem__(self, instruction: str) -> Entries:
        """All entries of a task."""
        return Entries.join([load() for load in self._parts[instruction]])

    def __iter__(self) -> Iterator[str]:
        """Instructions."""
        return iter(self._parts)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self._parts)

    def sample(self, share: float) -> list[Entries]:
        """So many of the parts of each task, evenly spaced, one of each at least."""
        chosen = []
        for parts in self._parts.values():
            count = max(1, round(share * len(parts)))
            places = np.linspace(0, len(parts), count, endpoint=False).astype(int)
            chosen.append(Entries.join([parts[place]() for place in places]))
        return chosen

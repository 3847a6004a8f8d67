"""Opening a database of demonstrated frames, and finding the shard of a task."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import DatabaseError
from heisd_ros.files.bounded import check_plain
from heisd_ros.instructions import normalise_instruction as normalise
from heisd_ros.kinematics.metric import MetricBounds
from heisd_ros.kinematics.motion import MetricKind
from heisd_ros.retrieval.arrays import file_hash
from heisd_ros.retrieval.entries import Matches
from heisd_ros.retrieval.key_space import KeySpace
from heisd_ros.retrieval.manifest import MANIFEST, Manifest, damaged
from heisd_ros.retrieval.shard import Shard

__all__ = ["EXACT", "Database", "Matches", "SearchableShard", "Shard", "Store", "normalise"]

NEAREST = 0.95
"""Least similarity (difflib) of an instruction to the nearest one, whose entries may then draft. It
also accepts "not between" for "between", so a step is never skipped on a similar instruction."""
EXACT = "exact"
"""Reported for a shard whose normalised instruction equals the requested one."""


class SearchableShard(Protocol):
    """What a decoder needs of one task's frames, wherever they are stored."""

    @property
    def instruction(self) -> str:
        """The task that the frames are of."""
        ...

    @property
    def grown(self) -> bool:
        """Whether it has entries added after the database was built, which no calibration saw."""
        ...

    def __len__(self) -> int:
        """Number of entries that can be searched."""
        ...

    def search(self, key: NDArray[np.float32], k: int) -> Matches:
        """Finds the k entries most similar to a frame; as `Shard.search`."""
        ...

    def clearance(self, matches: Matches) -> float:
        """Returns the control steps until the first entry reaches a change of its gripper."""
        ...


class Store(Protocol):
    """What a decoder needs of a database."""

    def shard_for(self, instruction: str) -> tuple[SearchableShard | None, str]:
        """Finds the shard of a task, and says how; as `Database.shard_for`."""
        ...

    def bounds(self, kind: MetricKind) -> MetricBounds:
        """Returns scale and boundary of the kinematic metric; as `Database.bounds`."""
        ...


S = TypeVar("S", bound=SearchableShard)


class Database:
    """Demonstrated frames of some tasks, one shard each.

    Attributes:
        folder: the database's folder.
        manifest: the content of ``manifest.json``.
        space: how keys are projected and quantised.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, space: KeySpace, shards: list[Shard]
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.space = space
        self._shards = {normalise(shard.instruction): shard for shard in shards}
        self._nearest = lru_cache(maxsize=256)(partial(nearest_shard, shards=self._shards))

    @classmethod
    def open(cls, folder: str | Path, model_fingerprint: str, robot: str | None = None) -> Database:
        """Opens a database for one model; its arrays stay on disk.

        Every file is read once and compared with its checksum.

        Args:
            folder: a folder that `write_database` wrote.
            model_fingerprint: `vla.checkpoint.fingerprint` of the model that will search.
            robot: the arm that will execute; None: any.

        Raises:
            DatabaseError: there is no database, it is empty or damaged, or it was made for another
                model or robot.
        """
        folder = Path(folder)
        while True:
            # A database that is replaced meanwhile is read again: its files would be of both.
            before = _identity(folder)
            try:
                opened = cls._open(folder, model_fingerprint, robot)
            except (DatabaseError, OSError):
                if _identity(folder) == before:
                    raise
            else:
                if _identity(folder) == before:
                    return opened

    @classmethod
    def _open(cls, folder: Path, model_fingerprint: str, robot: str | None) -> Database:
        manifest = Manifest.read(folder)
        if manifest.model_fingerprint != model_fingerprint:
            raise DatabaseError(
                f"{folder} was built with the model {manifest.model_fingerprint[:12]}, but "
                f"{model_fingerprint[:12]} is in use, whose features and tokens are others; build "
                "one with `heisd db build DEMOS FOLDER --model MODEL`"
            )
        if robot is not None and manifest.robot != robot:
            raise DatabaseError(
                f"{folder} holds demonstrations of the robot {manifest.robot!r}, but {robot!r} is "
                "in use; build one from its own demonstrations with `heisd db build`"
            )
        if manifest.entries == 0:
            raise DatabaseError(
                f"{folder} is empty; build it again from demonstrations with `heisd db build`"
            )
        check_files(folder, manifest)
        space = KeySpace.load(folder, manifest.features.size, manifest.features.kept)
        shards = [Shard.open(folder, info, space, manifest.answer) for info in manifest.shards]
        return cls(folder, manifest, space, shards)

    def __iter__(self) -> Iterator[Shard]:
        """Iterates over all shards."""
        return iter(self._shards.values())

    def __len__(self) -> int:
        """Number of entries in all shards."""
        return sum(len(shard) for shard in self)

    def check_k(self, k: int) -> None:
        """Checks, before a search, that every shard has at least k entries.

        Raises:
            DatabaseError: a shard has fewer.
        """
        for shard in self:
            shard.check_k(k)

    def bounds(self, kind: MetricKind) -> MetricBounds:
        """Returns scale and boundary of one kind of the metric, from the demonstrations.

        Raises:
            DatabaseError: the demonstrations had no joint velocities, or none was long enough.
        """
        if kind not in self.manifest.bounds:
            raise DatabaseError(
                f"{self.folder} has no bounds of the metric {kind!r}, only of "
                f"{sorted(self.manifest.bounds)}; build it from demonstrations with joint "
                "velocities that are longer than the metric's window"
            )
        return self.manifest.bounds[kind]

    def shard_for(self, instruction: str) -> tuple[Shard | None, str]:
        """Finds the shard of a task, and says how it was found.

        Args:
            instruction: the task, compared after `normalise`.

        Returns:
            the shard and `EXACT`; or the shard of the nearest instruction, and a text that names
            it; or None and a text that says why.
        """
        shard = self._shards.get(normalise(instruction))
        return (shard, EXACT) if shard is not None else self._nearest(instruction)


def nearest_shard(instruction: str, shards: Mapping[str, S]) -> tuple[S | None, str]:
    """Returns the shard of the nearest instruction and a text that names it, or None and why.

    Args:
        instruction: the task.
        shards: shards by their normalised instructions.
    """
    found = difflib.get_close_matches(normalise(instruction), shards, 1, NEAREST)
    if not found:
        return None, f"no shard for {instruction!r}; no retrieval"
    shard = shards[found[0]]
    return shard, f"nearest: {shard.instruction!r}"


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """Identifies the folder now at a path; None if there is none. Inodes alone are reused."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def check_files(folder: Path, manifest: Manifest) -> None:
    """Checks that every file of a database is unchanged.

    Raises:
        DatabaseError: a file is missing, cannot be read, or has another checksum.
    """
    for name in manifest.files:
        check_plain(folder / name, damaged)
    # hashlib releases the GIL, and gigabytes take seconds on one core.
    with ThreadPoolExecutor() as pool:
        hashes = {name: pool.submit(file_hash, folder / name) for name in manifest.files}
    for name, digest in manifest.files.items():
        try:
            found = hashes[name].result()
        except OSError as error:
            raise damaged(f"{folder / name} cannot be read: {error.strerror}") from error
        if found != digest:
            raise damaged(
                f"{folder / name} is damaged: its checksum differs from that in {MANIFEST}"
            )

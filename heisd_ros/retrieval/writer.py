"""Writing a database atomically."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from heisd_ros.errors import DatabaseError
from heisd_ros.instructions import normalise_instruction
from heisd_ros.retrieval.arrays import file_hash
from heisd_ros.retrieval.entries import COLUMNS, Entries
from heisd_ros.retrieval.index import EXACT_BELOW, Index
from heisd_ros.retrieval.key_space import KeySpace
from heisd_ros.retrieval.manifest import MANIFEST, Manifest, ShardInfo
from heisd_ros.retrieval.projection import Projection
from heisd_ros.retrieval.quantiser import Quantiser
from heisd_ros.retrieval.shard import COORDINATES, GRAPH, KEYS, LENGTHS


def write_database(
    folder: str | Path,
    description: Manifest,
    shards: Mapping[str, Entries],
    projection: Projection,
    exact_below: int = EXACT_BELOW,
) -> Manifest:
    """Writes a folder that `Database.open` reads.

    It is written beside its place and moved there when complete, so that a reader never sees half
    of one. A database that was there before is replaced, with its calibration, which would not
    hold for the new one.

    Args:
        folder: where it goes.
        description: everything but what is known only after writing.
        shards: entries by instruction.
        projection: what candidates are found by.
        exact_below: shards of at least this many entries get a graph.

    Returns:
        the complete manifest.

    Raises:
        DatabaseError: there is nothing to write, two instructions are the same, a key has another
            size than the projection, or the folder holds something else than a database.
    """
    folder = Path(folder)
    check_place(folder)
    _check(shards, projection)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A new one each time: what an interrupted run left behind must not end up in a database.
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        partial.chmod(0o755)  # mkdtemp's folders are their owner's alone
        # Coordinates are made with what will be read, not with more digits than that.
        space = KeySpace.as_stored(projection, quantiser_of(shards.values()))
        space.save(partial)
        infos = []
        for number, (instruction, entries) in enumerate(shards.items()):
            info = ShardInfo(
                instruction=instruction,
                folder=f"shards/{number:03d}",
                entries=len(entries),
                episodes=len(np.unique(entries.episodes)),
                graph=len(entries) >= exact_below,
            )
            _write_shard(partial / info.folder, entries, space, info.graph)
            infos.append(info)
        files = {
            str(path.relative_to(partial)): file_hash(path)
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        manifest = replace(
            description,
            features=replace(description.features, size=projection.size, kept=projection.kept),
            shards=tuple(infos),
            files=files,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            database_id="",
        ).sealed()
        (partial / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        _move(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def quantiser_of(shards: Iterable[Entries]) -> Quantiser:
    """The quantiser whose range is that of all keys."""
    ranges = [(entries.keys.min(axis=0), entries.keys.max(axis=0)) for entries in shards]
    lows, highs = zip(*ranges, strict=True)
    return Quantiser.of(np.min(lows, axis=0), np.max(highs, axis=0))


def check_place(folder: Path) -> None:
    """Refuses a folder that a database must not replace.

    Raises:
        DatabaseError: it holds something else than a database.
    """
    if not folder.exists() or (folder / MANIFEST).is_file():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise DatabaseError(
            f"{folder} holds something else than a database; name a new folder, or empty it"
        )


def _check(shards: Mapping[str, Entries], projection: Projection) -> None:
    if not shards:
        raise DatabaseError("a database without entries; give demonstrations to build it from")
    names = [normalise_instruction(instruction) for instruction in shards]
    if len(set(names)) < len(names):
        raise DatabaseError(f"{sorted(names)}: two shards of one instruction; join them")
    for instruction, entries in shards.items():
        if entries.keys.shape[1] != projection.size:
            raise DatabaseError(
                f"keys of {instruction!r} have {entries.keys.shape[1]} numbers, the projection "
                f"takes {projection.size}; make both with one model"
            )


def _write_shard(place: Path, entries: Entries, space: KeySpace, graph: bool) -> None:
    place.mkdir(parents=True)
    coordinates = space.projection(entries.keys).astype("<f2")
    codes = space.quantiser.encode(entries.keys)
    np.save(place / KEYS, codes)
    np.save(place / LENGTHS, space.quantiser.lengths(codes).astype("<f4"))
    np.save(place / COORDINATES, coordinates)
    for name, column in COLUMNS.items():
        np.save(place / f"{name}.npy", getattr(entries, name).astype(column.disk))
    if graph:
        Index.graph(coordinates).write(place / GRAPH)


def _move(partial: Path, folder: Path) -> None:
    """Puts the new folder in place; one that was there changes places with it at once."""
    if not folder.exists():
        os.replace(partial, folder)
    elif not _exchange(partial, folder):
        # A file system that cannot: for an instant there is no database, then the new one.
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
        os.replace(folder, old)
        try:
            os.replace(partial, folder)
        except OSError:
            os.replace(old, folder)
            raise
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Lets two paths change places atomically, by Linux's renameat2; false where that fails."""
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(here, bytes(one), here, bytes(other), exchange) == 0

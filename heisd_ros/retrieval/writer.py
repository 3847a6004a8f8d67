"""Writes a database atomically."""

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
from heisd_ros.files.atomic import sync
from heisd_ros.files.bounded import read_object
from heisd_ros.instructions import normalise_instruction
from heisd_ros.retrieval.arrays import file_hash
from heisd_ros.retrieval.entries import COLUMNS, AnswerSize, Entries, widened
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

    It is written next to the target and moved there when complete, so that a reader never sees a
    partial one. An existing database is replaced together with its calibration, which would not
    hold for the new one.

    Args:
        folder: the target.
        description: the manifest without what is known only after writing.
        shards: entries by instruction.
        projection: the projection that candidates are found by.
        exact_below: shards of at least this many entries get a graph.

    Returns:
        the complete manifest.

    Raises:
        DatabaseError: there is nothing to write, two instructions are the same, a key has another
            size than the projection, actions have different sizes, or the folder holds something
            other than a database.
    """
    folder = Path(folder)
    check_place(folder)
    answer = _check(shards, projection)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A new folder each time: leftovers of an interrupted run must not end up in a database.
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        partial.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        # Coordinates are computed with the precision that will be read back.
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
            entries = replace(entries, tokens=widened(entries.tokens, answer.tokens))
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
            answer=answer,
            shards=tuple(infos),
            files=files,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            database_id="",
        ).sealed()
        (partial / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        for path in (*partial.rglob("*"), partial):
            sync(path)
        _move(partial, folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def quantiser_of(shards: Iterable[Entries]) -> Quantiser:
    """Makes the quantiser whose range is that of all keys."""
    ranges = [(entries.keys.min(axis=0), entries.keys.max(axis=0)) for entries in shards]
    lows, highs = zip(*ranges, strict=True)
    return Quantiser.of(np.min(lows, axis=0), np.max(highs, axis=0))


def check_place(folder: Path) -> None:
    """Refuses a folder that a database must not replace.

    Raises:
        DatabaseError: it holds something other than a database.
    """
    if not folder.exists() or _is_database(folder):
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise DatabaseError(
            f"{folder} holds something else than a database; name a new folder, or empty it"
        )


def _is_database(folder: Path) -> bool:
    """Whether a folder holds a database, of whatever format, or a damaged one."""
    try:
        found = read_object(folder / MANIFEST, DatabaseError)
    except DatabaseError:
        return (folder / MANIFEST).is_file() and (folder / "shards").is_dir()
    return {"format", "database_id", "shards"} <= found.keys()


def _check(shards: Mapping[str, Entries], projection: Projection) -> AnswerSize:
    """Checks that shards fit together, and returns the size of their answers."""
    if not shards:
        raise DatabaseError("a database without entries; give demonstrations to build it from")
    names = [normalise_instruction(instruction) for instruction in shards]
    if len(set(names)) < len(names):
        raise DatabaseError(f"{sorted(names)}: two shards of one instruction; join them")
    answers = []
    for instruction, entries in shards.items():
        answers.append(entries.answer)
        if entries.keys.shape[1] != projection.size:
            raise DatabaseError(
                f"keys of {instruction!r} have {entries.keys.shape[1]} numbers, the projection "
                f"takes {projection.size}; make both with one model"
            )
    numbers = sorted({answer.numbers for answer in answers})
    if len(numbers) > 1:
        raise DatabaseError(f"actions have {numbers} numbers; make all entries with one model")
    return AnswerSize(max(answer.tokens for answer in answers), numbers[0])


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
    """Moves the new folder into place; an existing one is exchanged with it atomically."""
    if not folder.exists():
        os.replace(partial, folder)
    elif not _exchange(partial, folder):
        # The file system cannot exchange: for an instant there is no database, then the new one.
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
        os.replace(folder, old)
        try:
            os.replace(partial, folder)
        except OSError:
            os.replace(old, folder)
            raise
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two paths atomically, by Linux's renameat2; returns false if that fails."""
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(here, bytes(one), here, bytes(other), exchange) == 0

"""Edits databases: adding, merging, pruning and verifying, without running the model again.

A key is stored with one byte per number. Entries that are written again are decoded from that and
encoded again over a range that includes the new ones: their similarities stay within
`Fidelity.similarity_error`. Scale and boundary of the kinematic metric stay those of the first
database, since motion is not stored. A calibration is not carried over to an edited database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import heisd_ros
from heisd_ros.data.source import Source
from heisd_ros.errors import DatabaseError
from heisd_ros.files.ranges import parse_ranges
from heisd_ros.instructions import normalise_instruction
from heisd_ros.retrieval.arrays import map_array
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.entries import COLUMNS, AnswerSize, Entries
from heisd_ros.retrieval.key_space import KeySpace
from heisd_ros.retrieval.manifest import Manifest, ShardInfo
from heisd_ros.retrieval.shard import KEYS
from heisd_ros.retrieval.writer import check_place, write_database
from heisd_ros.training.build_database import (
    Gathered,
    described,
    gather,
    metric_bounds,
    projection_of,
    written,
)
from heisd_ros.training.build_journal import Journal, Shards
from heisd_ros.training.selection import check_sources, choose_items, plan_of, ranges
from heisd_ros.vla.token_model import TokenModel

SAME = ("model_fingerprint", "statistics_key", "robot", "control_rate_hz")
"""What two databases must have in common to be merged."""
FOUND = 0.999
"""Least similarity of a stored frame with itself."""


def stored_entries(folder: Path, info: ShardInfo, space: KeySpace, answer: AnswerSize) -> Entries:
    """Reads a shard's entries as they are stored: keys decoded, of almost unit length.

    Args:
        folder: The database.
        info: The shard's record in the manifest.
        space: The database's key space.
        answer: The size of its answers.

    Raises:
        DatabaseError: A file is missing or of another shape.
    """
    place, rows = folder / info.folder, info.entries
    columns = {
        name: np.array(
            map_array(place / f"{name}.npy", (rows, *column.row(answer)), column.disk),
            column.memory,
        )
        for name, column in COLUMNS.items()
    }
    codes = map_array(place / KEYS, (rows, space.projection.size), "u1")
    return Entries(keys=space.quantiser.decode(codes).astype(np.float32), **columns)


def add_to_database(
    folder: Path,
    vla: TokenModel,
    fingerprint: str,
    sources: Sequence[Source],
    *,
    batch_size: int = 64,
    on_frames: Callable[[int, int], None] = lambda done, total: None,
    read_as: Mapping[str, str] | None = None,
) -> Manifest:
    """Adds episodes to a database; the model runs over the new ones only.

    It can be resumed like `build_database`; the old database stays in place until all is done.

    Args:
        folder: The database.
        vla: The model that it was built with.
        fingerprint: The model's fingerprint.
        sources: What is added. A source that is already in the database is refused.
        batch_size: Frames at a time.
        on_frames: Called with the number of frames done and of all, after each episode.
        read_as: As in `build_database`.

    Returns:
        The new manifest.

    Raises:
        DatabaseError: The database is of another model, robot or rate, or has a source already.
        HeisdError: A source cannot be read.
    """
    database = Database.open(folder, fingerprint)
    old = database.manifest
    robot = check_sources(vla, sources, old.control_rate_hz)
    if robot != old.robot:
        raise DatabaseError(f"{folder} is of the robot {old.robot!r}, the sources of {robot!r}")
    known = old.provenance.get("demonstrations", {})
    again = sorted({source.label for source in sources} & set(known))
    if again:
        raise DatabaseError(f"{again} are in {folder} already; name what is new")
    # Episodes that name a fixed initial state keep to those that the database was built from.
    items = list(choose_items(sources, _states(old)))
    first = 1 + max(int(shard.columns["episodes"].max()) for shard in database)
    every = int(old.provenance.get("every", 1))
    plan = {"database": old.database_id, "sources": plan_of(items), **(read_as or {})}
    with Journal(folder, plan) as journal:
        new = gather(
            vla, items, journal, old.control_rate_hz,
            first=first, every=every, batch_size=batch_size, on_frames=on_frames,
        )  # fmt: skip
        joined = Gathered()
        _take(joined, folder, old)
        for name, parts in new.parts.items():
            joined.instructions.setdefault(name, new.instructions[name])
            joined.parts.setdefault(name, []).extend(parts)
        shards = joined.shards()
        projection, fidelity = projection_of(shards, old.entries + new.frames)
        description = replace(
            old,
            bounds=old.bounds or metric_bounds(new.trajectories),
            fidelity=fidelity,
            provenance={
                **old.provenance,
                "demonstrations": {**known, **new.files},
                "added_to": [*old.provenance.get("added_to", []), old.database_id],
            },
        )
        manifest = written(folder, description, shards, projection, journal)
        journal.remove()
    return manifest


def merge_databases(folders: Sequence[Path], target: Path) -> Manifest:
    """Merges databases of one model, robot and rate.

    Args:
        folders: The databases; bounds and boundary are the first's.
        target: Where the new one goes.

    Raises:
        DatabaseError: They do not fit together, or cannot be read.
    """
    check_place(target)
    manifests = [Manifest.read(folder) for folder in folders]
    first = manifests[0]
    for folder, manifest in zip(folders, manifests, strict=True):
        Database.open(folder, manifest.model_fingerprint)  # checks every file
        for name in SAME:
            ours, theirs = getattr(first, name), getattr(manifest, name)
            if ours != theirs:
                raise DatabaseError(
                    f"{folder} has {name} {theirs!r}, {folders[0]} {ours!r}; accepted: the same"
                )
        if manifest.features.views != first.features.views:
            raise DatabaseError(f"{folder} has views {manifest.features.views}, not the first's")
    labels = [label for m in manifests for label in m.provenance.get("demonstrations", {})]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise DatabaseError(f"{twice} are in more than one of the databases; prune them first")
    joined, offset = Gathered(), 0
    demonstrations: dict[str, Any] = {}
    for folder, manifest in zip(folders, manifests, strict=True):
        for label, about in manifest.provenance.get("demonstrations", {}).items():
            demonstrations[label] = _renumbered(about, offset)
        offset = _take(joined, folder, manifest, offset)
    provenance = {
        **first.provenance,
        "heisd_ros": heisd_ros.__version__,
        "demonstrations": demonstrations,
        "merged": [manifest.database_id for manifest in manifests],
    }
    return _rewritten(target, replace(first, provenance=provenance), joined.shards())


@dataclass(frozen=True)
class Pruning:
    """What to leave out of a database.

    Attributes:
        instructions: Tasks to remove.
        episodes: Numbers of the episodes to remove.
        every: Keep every n-th entry of an episode.
    """

    instructions: tuple[str, ...] = ()
    episodes: Collection[int] = ()
    every: int = 1

    def rows(self, entries: Entries) -> np.ndarray:
        """Returns a mask (N,) of the entries of a shard that stay."""
        _, first, place = np.unique(entries.episodes, return_index=True, return_inverse=True)
        within = np.arange(len(entries)) - first[place]
        return ~np.isin(entries.episodes, list(self.episodes)) & (within % self.every == 0)


def prune_database(folder: Path, pruning: Pruning, target: Path) -> Manifest:
    """Writes a database without some of its entries.

    Args:
        folder: The database.
        pruning: What is removed.
        target: Where the new one goes; may be the same folder.

    Raises:
        DatabaseError: Nothing is named, or what is not in it; nothing would be left, or it cannot
            be read.
    """
    check_place(target)
    if not (pruning.instructions or pruning.episodes or pruning.every > 1):
        raise DatabaseError(
            "nothing to leave out; accepted: tasks, episodes, or every n-th frame with n above 1"
        )
    old = Manifest.read(folder)
    database = Database.open(folder, old.model_fingerprint)
    gone = {normalise_instruction(text) for text in pruning.instructions}
    unknown = sorted(gone - {normalise_instruction(shard.instruction) for shard in database})
    if unknown:
        raise DatabaseError(f"{folder} has no task {unknown}; `heisd db info` lists them")
    there = {int(number) for shard in database for number in np.unique(shard.columns["episodes"])}
    if missing := set(pruning.episodes) - there:
        raise DatabaseError(
            f"{folder} has no episodes {ranges(missing)}; accepted: {ranges(there)}"
        )
    space = KeySpace.load(folder, old.features.size, old.features.kept)
    parts: dict[str, list[Callable[[], Entries]]] = {}
    left: Counter[int] = Counter()
    for info in old.shards:
        if normalise_instruction(info.instruction) not in gone:
            load = partial(stored_entries, folder, info, space, old.answer)
            entries = load()
            rows = pruning.rows(entries)
            left.update(entries.episodes[rows].tolist())
            if rows.any():
                parts[info.instruction] = [partial(_chosen, load, rows)]
    if not parts:
        raise DatabaseError(f"nothing of {folder} would be left")
    demonstrations = old.provenance.get("demonstrations", {})
    provenance = {
        **old.provenance,
        "demonstrations": {
            label: about for label, whole in demonstrations.items() if (about := _left(whole, left))
        },
        "pruned_from": old.database_id,
    }
    return _rewritten(target, replace(old, provenance=provenance), Shards(parts))


def verify_database(folder: Path, fingerprint: str | None = None) -> list[str]:
    """Checks a database from end to end; up to 200 frames of each task must find themselves.

    Args:
        folder: The database.
        fingerprint: Fingerprint of the model that it must fit; None: any.

    Returns:
        What was checked, in words.

    Raises:
        DatabaseError: Something is wrong; the message names it.
    """
    manifest = Manifest.read(folder)
    database = Database.open(folder, fingerprint or manifest.model_fingerprint)
    space = KeySpace.load(folder, manifest.features.size, manifest.features.kept)
    asked = found = 0
    seen: dict[int, str] = {}
    for info in manifest.shards:
        entries = stored_entries(folder, info, space, manifest.answer)
        _check_order(info, entries, seen)
        shard, _ = database.shard_for(info.instruction)
        assert shard is not None, "a shard of the manifest"
        keys = entries.keys / np.linalg.norm(entries.keys, axis=1, keepdims=True)
        for row in np.unique(np.linspace(0, len(entries) - 1, 200).astype(int)):
            asked += 1
            found += bool(shard.search(keys[row], 1).similarity[0] >= FOUND)
    if found < 0.99 * asked:
        raise DatabaseError(f"{folder}: of {asked} frames only {found} find themselves")
    return [
        f"{len(manifest.files)} files have their checksums",
        f"{manifest.entries} entries in {len(manifest.shards)} tasks are whole and in order",
        f"{found} of {asked} frames find themselves",
    ]


def _check_order(info: ShardInfo, entries: Entries, seen: dict[int, str]) -> None:
    numbers, first = np.unique(entries.episodes, return_index=True)
    for number in numbers.tolist():
        if number in seen:
            raise DatabaseError(
                f"episode {number} is in the tasks {seen[number]!r} and {info.instruction!r}"
            )
        seen[number] = info.instruction
    ends = np.delete(np.diff(entries.steps) <= 0, np.sort(first)[1:] - 1)
    if ends.any():
        raise DatabaseError(f"steps of {info.instruction!r} are not in order")


def _states(manifest: Manifest) -> set[int]:
    """Returns the initial states that a database was built from."""
    states: set[int] = set()
    for part in str(manifest.provenance.get("states", "")).split(","):
        low, _, high = part.partition("-")
        if low.isdigit():
            states |= set(range(int(low), int(high or low) + 1))
    return states


def _renumbered(about: Mapping[str, Any], offset: int) -> dict[str, Any]:
    """Describes a source whose episodes are numbered from an offset on."""
    if "numbers" not in about:  # of a version that did not store them
        return dict(about)
    numbers = parse_ranges(about["numbers"])
    return {**about, "numbers": ranges({number + offset for number in numbers})}


def _left(about: Mapping[str, Any], left: Mapping[int, int]) -> dict[str, Any] | None:
    """Describes what is left of a source, given frames by episode; None if nothing is."""
    if "numbers" not in about:
        return dict(about)
    frames = {number: left[number] for number in parse_ranges(about["numbers"]) if left[number]}
    return described(frames) if frames else None


def _take(joined: Gathered, folder: Path, manifest: Manifest, offset: int = 0) -> int:
    """Adds all of a database, its episodes numbered from an offset on.

    Returns:
        The next free episode number.
    """
    space = KeySpace.load(folder, manifest.features.size, manifest.features.kept)
    last = offset
    for info in manifest.shards:
        name = normalise_instruction(info.instruction)
        joined.instructions.setdefault(name, info.instruction)
        load = partial(stored_entries, folder, info, space, manifest.answer)
        joined.parts.setdefault(name, []).append(partial(_numbered, load, offset))
        episodes = map_array(folder / info.folder / "episodes.npy", (info.entries,), "<i4")
        last = max(last, offset + int(episodes.max()) + 1)
    return last


def _numbered(load: Callable[[], Entries], offset: int) -> Entries:
    entries = load()
    return replace(entries, episodes=entries.episodes + offset)


def _chosen(load: Callable[[], Entries], rows: np.ndarray) -> Entries:
    entries = load()
    return Entries(**{f.name: getattr(entries, f.name)[rows] for f in fields(Entries)})


def _rewritten(target: Path, description: Manifest, shards: Shards) -> Manifest:
    frames = sum(len(shards[instruction]) for instruction in shards)
    projection, fidelity = projection_of(shards, frames)
    try:
        return write_database(target, replace(description, fidelity=fidelity), shards, projection)
    except OSError as error:
        raise DatabaseError(f"{target} cannot be written: {error.strerror or error}") from error

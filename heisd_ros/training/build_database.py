"""Builds a retrieval database: demonstrations through the model, into a folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

import heisd_ros
from heisd_ros.data.episode import Episode
from heisd_ros.data.source import Source, whole
from heisd_ros.errors import DatabaseError
from heisd_ros.instructions import normalise_instruction
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.metric import MetricBounds, MetricSettings, Trajectory
from heisd_ros.kinematics.motion import MetricKind
from heisd_ros.retrieval.entries import Entries
from heisd_ros.retrieval.manifest import FeatureLayout, Fidelity, Manifest
from heisd_ros.retrieval.projection import Projection
from heisd_ros.retrieval.writer import check_place, write_database
from heisd_ros.training.build_journal import Journal, Record, Shards
from heisd_ros.training.compression import choose_projection
from heisd_ros.training.dataset import action_chunks, episode_proprio
from heisd_ros.training.encode_frames import read_frames
from heisd_ros.training.metric_bounds import trajectory_of
from heisd_ros.training.selection import (
    Item,
    check_sources,
    choose_items,
    plan_of,
    ranges,
)
from heisd_ros.vla.token_model import BatchModel, TokenModel

DATABASE_STATES = range(30)
"""Initial states whose episodes a database holds. Those above, of the demonstration states, are
left for calibration, which asks how retrieval fares where it has not been."""
FIT_BYTES = 1 << 30
"""Keys that the projection is chosen with, at most."""

Elsewhere = Callable[[list[int]], Iterator[tuple[int, Record]]]
"""Runs a model over the episodes of these numbers, and yields each record as it comes."""


@dataclass
class Gathered:
    """Collects the results of all episodes, as shards by normalised instruction."""

    instructions: dict[str, str] = field(default_factory=dict)
    parts: dict[str, list[Callable[[], Entries]]] = field(default_factory=dict)
    trajectories: list[Trajectory] = field(default_factory=list)
    numbers: dict[str, dict[int, int]] = field(default_factory=dict)
    frames: int = 0

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """What is of which source, for a manifest."""
        return {label: described(frames) for label, frames in self.numbers.items()}

    def add(self, record: Record, load: Callable[[], Entries]) -> None:
        """Adds an episode, of which only `load` and the motion are kept in memory."""
        name = normalise_instruction(record.instruction)
        self.instructions.setdefault(name, record.instruction)
        self.parts.setdefault(name, []).append(load)
        if record.trajectory is not None:
            self.trajectories.append(record.trajectory)
        frames = self.numbers.setdefault(record.label, {})
        frames[int(record.entries.episodes[0])] = len(record.entries)
        self.frames += len(record.entries)

    def shards(self) -> Shards:
        """Returns the entries by instruction, in the wording that came first."""
        return Shards({self.instructions[name]: parts for name, parts in self.parts.items()})


def build_database(
    vla: TokenModel,
    fingerprint: str,
    sources: Sequence[Source],
    folder: Path,
    control_rate_hz: float,
    *,
    states: Collection[int] = DATABASE_STATES,
    every: int = 1,
    boundary_percentile: float = 25.0,
    batch_size: int = 64,
    on_frames: Callable[[int, int], None] = lambda done, total: None,
    elsewhere: Elsewhere | None = None,
    read_as: Mapping[str, str] | None = None,
) -> Manifest:
    """Builds the database of one model from demonstrations.

    Progress is stored in a `Journal` beside the folder: a build that was killed is resumed when it
    is run again with the same arguments, and gives the same database. Memory holds one episode, or
    one task's entries, at a time.

    Args:
        vla: The model whose features are the keys and whose tokens are the drafts.
        fingerprint: `vla.checkpoint.fingerprint` of it.
        sources: Where the demonstrations are, all of one robot.
        folder: Where the database goes; one that is there is replaced when the new one is complete.
        control_rate_hz: Control rate of the model.
        states: Initial states whose episodes are taken. Episodes that name none, as LIBERO's own,
            are always taken.
        every: Take every n-th recorded frame, for a smaller database.
        boundary_percentile: Share of the demonstrated motion, percent, that the kinematic metric
            is to hold for slow or curved.
        batch_size: Frames that the model sees at a time.
        on_frames: Called with the number of frames done and of all, after each episode.
        elsewhere: Runs the model over episodes in other processes; None: in this one.
        read_as: What else decides what an episode gives, by name: a build that was killed is
            resumed with the same alone.

    Returns:
        The manifest of the database.

    Raises:
        DatabaseError: No episode is of these states, the model's features are not finite, it takes
            another proprioception than demonstrations have, the folder holds something else, there
            is no room, or the sources are of two robots or of another control rate.
        HeisdError: A source cannot be read, or has none of the model's views.
        UnknownInstructionError: The model was not trained on a demonstrated task.
    """
    check_place(folder)  # now, and not after minutes of work
    robot = check_sources(vla, sources, control_rate_hz)
    items = list(choose_items(sources, states))
    plan = {
        "model": fingerprint,
        "statistics": vla.statistics_key,
        "control_rate_hz": float(control_rate_hz),
        "every": every,
        "sources": plan_of(items),
        **(read_as or {}),
    }
    with Journal(folder, plan) as journal:
        gathered = gather(
            vla, items, journal, control_rate_hz, every=every, batch_size=batch_size,
            on_frames=on_frames, elsewhere=elsewhere,
        )  # fmt: skip
        shards = gathered.shards()
        projection, fidelity = projection_of(shards, gathered.frames)
        description = Manifest(
            model_fingerprint=fingerprint,
            statistics_key=vla.statistics_key,
            robot=robot,
            control_rate_hz=float(control_rate_hz),
            features=FeatureLayout(
                views=vla.spec.views,
                towers=_key_parts(vla, projection.size),
                size=projection.size,
                kept=projection.kept,
            ),
            bounds=metric_bounds(gathered.trajectories, boundary_percentile),
            fidelity=fidelity,
            provenance={
                "heisd_ros": heisd_ros.__version__,
                "states": ranges(states),
                "every": every,
                "demonstrations": gathered.files,
            },
        )
        manifest = written(folder, description, shards, projection, journal)
        journal.remove()
    return manifest


def described(frames: Mapping[int, int]) -> dict[str, Any]:
    """Describes the episodes of one source, whose frames are given by their numbers."""
    return {"episodes": len(frames), "frames": sum(frames.values()), "numbers": ranges(frames)}


def written(
    folder: Path, description: Manifest, shards: Shards, projection: Projection, journal: Journal
) -> Manifest:
    """Writes a database; a full disk leaves the journal.

    Raises:
        DatabaseError: There is no room.
    """
    try:
        return write_database(folder, description, shards, projection)
    except OSError as error:
        raise no_room(error, journal) from error


def no_room(error: OSError, journal: Journal) -> DatabaseError:
    """Makes the error for a file that cannot be written."""
    return DatabaseError(
        f"{error.strerror or error}; what the model made is kept in {journal.folder}: make room "
        "and run the same command again"
    )


def gather(
    vla: TokenModel,
    items: Sequence[Item],
    journal: Journal,
    control_rate_hz: float,
    *,
    first: int = 0,
    every: int = 1,
    batch_size: int = 64,
    on_frames: Callable[[int, int], None] = lambda done, total: None,
    elsewhere: Elsewhere | None = None,
) -> Gathered:
    """Runs the model over every episode that the journal does not have yet.

    Args:
        vla: The model.
        items: The episodes.
        journal: Keeps what is done.
        control_rate_hz: Control rate.
        first: Number of the first episode.
        every: Take every n-th recorded frame.
        batch_size: Frames at a time.
        on_frames: See `build_database`.
        elsewhere: Likewise.

    Raises:
        DatabaseError: Features are not finite, or there is no room.
    """
    gathered = Gathered()
    total = sum(item.frames(every) for item in items)
    if elsewhere is not None:
        missing = [n for n in range(first, first + len(items)) if n not in journal]
        done = total - sum(items[n - first].frames(every) for n in missing)
        for number, record in elsewhere(missing):
            _save(journal, number, record)
            done += len(record.entries)
            on_frames(done, total)
    for number, item in enumerate(items, first):
        if number not in journal:
            record = record_of(vla, item, number, control_rate_hz, every, batch_size)
            _save(journal, number, record)
        gathered.add(journal.load(number), partial(_entries_of, journal, number))
        on_frames(gathered.frames, total)
    return gathered


def _save(journal: Journal, number: int, record: Record) -> None:
    try:
        journal.save(number, record)
    except OSError as error:
        raise no_room(error, journal) from error


def _entries_of(journal: Journal, number: int) -> Entries:
    return journal.load(number).entries


def record_of(
    vla: TokenModel, item: Item, number: int, control_rate_hz: float, every: int, batch_size: int
) -> Record:
    """Runs the model over one episode: the work of a build, on whichever machine.

    Args:
        vla: The model.
        item: The episode.
        number: Its number in the database.
        control_rate_hz: Control rate.
        every: Take every n-th recorded frame.
        batch_size: Frames at a time.

    Raises:
        DatabaseError: The features are not finite, or actions have another size than the model's.
        HeisdError: The source cannot be read, or has none of the model's views.
    """
    resize = vla.resize if isinstance(vla, BatchModel) else whole
    episode = item.source.episode(item.place, vla.spec.views, resize)
    arm = item.source.arm
    moves = episode.joint_velocities is not None and len(episode) > 1
    return Record(
        label=item.source.label,
        instruction=episode.instruction,
        entries=_entries(vla, episode, arm, number, every, batch_size),
        trajectory=trajectory_of(episode, arm, control_rate_hz) if moves else None,
    )


def projection_of(shards: Shards, frames: int) -> tuple[Projection, Fidelity]:
    """Chooses the projection for entries, from no more of them than fit into memory.

    Args:
        shards: The entries.
        frames: How many.
    """
    size = next(iter(shards.sample(0.0))).keys.shape[1]
    return choose_projection(shards.sample(min(1.0, FIT_BYTES / (4 * size * frames))))


def metric_bounds(
    trajectories: Sequence[Trajectory], boundary_percentile: float = 25.0
) -> dict[str, MetricBounds]:
    """Computes scale and boundary of each metric whose window some trajectory fills."""
    longest = max((len(trajectory.stamps) for trajectory in trajectories), default=0)
    settings = {kind: MetricSettings(kind=kind) for kind in get_args(MetricKind)}
    return {
        kind: MetricBounds.from_trajectories(
            trajectories, chosen, boundary_percentile=boundary_percentile
        )
        for kind, chosen in settings.items()
        if longest >= (chosen.window or 0)
    }


def _entries(
    vla: TokenModel, episode: Episode, arm: ArmKinematics, number: int, every: int, batch_size: int
) -> Entries:
    if episode.actions.shape[1] != vla.codec.dimensions:
        raise DatabaseError(
            f"episode {number}, {episode.instruction!r}: actions have {episode.actions.shape[1]} "
            f"numbers, the model's {vla.codec.dimensions}"
        )
    chunks = action_chunks(episode, vla.codec.horizon).reshape(len(episode), -1)[::every]
    episode = episode.thinned(every)
    proprio = episode_proprio(episode, arm, vla.spec.proprio_size)
    frames = read_frames(vla, episode, proprio, batch_size)
    try:
        return Entries(
            keys=frames.keys,
            actions=chunks,
            tokens=frames.tokens,
            episodes=np.full(len(episode), number),
            steps=np.arange(len(episode)) * episode.stride,
        )
    except DatabaseError as error:
        raise DatabaseError(f"episode {number}, {episode.instruction!r}: {error}") from error


def _key_parts(vla: TokenModel, size: int) -> tuple[int, ...]:
    return vla.key_parts if isinstance(vla, BatchModel) else (size // len(vla.spec.views),)

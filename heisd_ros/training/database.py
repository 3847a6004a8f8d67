"""Builds a retrieval database: demonstrations through the model, into a folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

import heisd_ros
from heisd_ros.data.episode import Episode
from heisd_ros.data.libero_hdf5 import read_episodes
from heisd_ros.errors import DatabaseError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.metric import MetricBounds, MetricSettings, Trajectory
from heisd_ros.kinematics.motion import MetricKind
from heisd_ros.kinematics.proprio import PROPRIO_SIZE
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.retrieval.database import normalise
from heisd_ros.retrieval.entries import LOOKAHEAD, Entries
from heisd_ros.retrieval.manifest import FeatureLayout, Manifest
from heisd_ros.retrieval.writer import check_place, write_database
from heisd_ros.training.compression import choose_projection
from heisd_ros.training.dataset import demonstration_files, episode_proprio
from heisd_ros.training.frames import read_frames
from heisd_ros.training.motion import trajectory_of
from heisd_ros.vla.vla import VLA

ROBOT = "panda"
DATABASE_STATES = range(30)
"""Initial states whose episodes a database holds. Those above, of the demonstration states, are
left for calibration, which asks how retrieval fares where it has not been."""


@dataclass
class _Gathered:
    """What all episodes together give; shards by normalised instruction."""

    instructions: dict[str, str] = field(default_factory=dict)
    parts: dict[str, list[Entries]] = field(default_factory=dict)
    trajectories: list[Trajectory] = field(default_factory=list)
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    episodes: int = 0
    frames: int = 0

    def add(self, path: Path, instruction: str, entries: Entries) -> None:
        name = normalise(instruction)
        self.instructions.setdefault(name, instruction)
        self.parts.setdefault(name, []).append(entries)
        # Without the folders above: they are this machine's and say nothing of the data.
        file = f"{path.parent.name}/{path.name}"
        counts = self.files.setdefault(file, {"episodes": 0, "frames": 0})
        counts["episodes"] += 1
        counts["frames"] += len(entries)
        self.episodes += 1
        self.frames += len(entries)

    def shards(self) -> dict[str, Entries]:
        return {self.instructions[name]: Entries.join(parts) for name, parts in self.parts.items()}


def build_database(
    vla: VLA,
    fingerprint: str,
    demonstrations: Sequence[Path],
    folder: Path,
    control_rate_hz: float,
    *,
    states: Collection[int] = DATABASE_STATES,
    every: int = 1,
    boundary_percentile: float = 25.0,
    batch_size: int = 64,
    on_frames: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Builds the database of one model from demonstrations.

    Args:
        vla: The model whose features are the keys and whose tokens are the drafts.
        fingerprint: `vla.checkpoint.fingerprint` of it.
        demonstrations: Folders of `*_demo.hdf5` files.
        folder: Where the database goes; one that is there is replaced when the new one is complete.
        control_rate_hz: Control rate of the demonstrations.
        states: Initial states whose episodes are taken. Episodes that name none, as LIBERO's own,
            are always taken.
        every: Take every n-th recorded frame, for a smaller database.
        boundary_percentile: Share of the demonstrated motion, percent, that the kinematic metric
            is to hold for slow or curved.
        batch_size: Frames that the model sees at a time.
        on_frames: Called with the number of frames done and of all, after each episode.

    Returns:
        The manifest of the database.

    Raises:
        DatabaseError: No episode is of these states, the model's features are not finite, it takes
            another proprioception than demonstrations have, or the folder holds something else.
        DemonstrationError: A file cannot be read, or has none of the model's views.
        UnknownInstructionError: The model was not trained on a demonstrated task.
    """
    if vla.config.proprio_size not in (0, PROPRIO_SIZE):
        raise DatabaseError(
            f"the model takes {vla.config.proprio_size} numbers of proprioception, demonstrations "
            f"give {PROPRIO_SIZE}; train it with `heisd train vla`"
        )
    check_place(folder)  # now, and not after minutes of work
    paths = demonstration_files(demonstrations)
    gathered = _gather(vla, paths, control_rate_hz, states, every, batch_size, on_frames)
    shards = gathered.shards()
    projection, fidelity = choose_projection(list(shards.values()))
    description = Manifest(
        model_fingerprint=fingerprint,
        statistics_key=vla.statistics_key,
        robot=ROBOT,
        control_rate_hz=float(control_rate_hz),
        features=FeatureLayout(
            views=vla.config.views,
            towers=tuple(tower.output_width for tower in vla.config.towers),
            size=projection.size,
            kept=projection.kept,
        ),
        bounds=metric_bounds(gathered.trajectories, boundary_percentile),
        fidelity=fidelity,
        provenance={
            "heisd_ros": heisd_ros.__version__,
            "states": _ranges(states),
            "every": every,
            "demonstrations": gathered.files,
        },
    )
    return write_database(folder, description, shards, projection)


def _gather(
    vla: VLA,
    paths: Sequence[Path],
    control_rate_hz: float,
    states: Collection[int],
    every: int,
    batch_size: int,
    on_frames: Callable[[int, int], None],
) -> _Gathered:
    total = sum(
        len(episode.thinned(every)) for path in paths for episode in _taken(path, (), states)
    )
    if total == 0:
        raise DatabaseError(
            f"{sorted({str(path.parent) for path in paths})} have no episode of the initial states "
            f"{_ranges(states)}; record more with `heisd demos`, or ask for other states"
        )
    arm = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
    gathered = _Gathered()
    for path in paths:
        for episode in _taken(path, vla.config.views, states):
            entries = _entries(vla, episode, arm, gathered.episodes, every, batch_size)
            gathered.add(path, episode.instruction, entries)
            if episode.joint_velocities is not None and len(episode) > 1:
                gathered.trajectories.append(trajectory_of(episode, arm, control_rate_hz))
            on_frames(gathered.frames, total)
    return gathered


def metric_bounds(
    trajectories: Sequence[Trajectory], boundary_percentile: float = 25.0
) -> dict[str, MetricBounds]:
    """Scale and boundary of each kind of metric whose window some trajectory fills."""
    longest = max((len(trajectory.stamps) for trajectory in trajectories), default=0)
    settings = {kind: MetricSettings(kind=kind) for kind in get_args(MetricKind)}
    return {
        kind: MetricBounds.from_trajectories(
            trajectories, chosen, boundary_percentile=boundary_percentile
        )
        for kind, chosen in settings.items()
        if longest >= (chosen.window or 0)
    }


def lookahead(actions: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """The actions of the control steps that follow each recorded one.

    Between recorded steps motion is interpolated and the gripper holds. An episode's last action
    repeats: a zero would be a command to stop.

    Args:
        actions: (T, 7) of every `stride`-th control step.
        stride: Control steps between two recorded ones.

    Returns:
        (T, 3, 7).
    """
    recorded = np.arange(len(actions)) * stride
    wanted = np.minimum(recorded[:, None] + np.arange(1, LOOKAHEAD + 1), recorded[-1])
    ahead = np.stack([np.interp(wanted, recorded, column) for column in actions.T], axis=-1)
    ahead[..., 6] = actions[wanted // stride, 6]
    return ahead


def _taken(path: Path, views: tuple[str, ...], states: Collection[int]) -> Iterator[Episode]:
    for episode in read_episodes(path, views):
        if episode.init_state is None or episode.init_state in states:
            yield episode


def _entries(
    vla: VLA, episode: Episode, arm: ArmKinematics, number: int, every: int, batch_size: int
) -> Entries:
    ahead = lookahead(episode.actions, episode.stride)[::every]
    episode = episode.thinned(every)
    proprio = episode_proprio(episode, arm)
    frames = read_frames(vla, episode, proprio, batch_size)
    try:
        return Entries(
            keys=frames.keys,
            actions=episode.actions,
            lookahead=ahead,
            tokens=frames.tokens,
            margins=frames.margins,
            positions=proprio[:, :3],
            joints=episode.joint_positions,
            episodes=np.full(len(episode), number),
            steps=np.arange(len(episode)) * episode.stride,
        )
    except DatabaseError as error:
        raise DatabaseError(f"episode {number}, {episode.instruction!r}: {error}") from error


def _ranges(states: Collection[int]) -> str:
    """Numbers as text: 0, 1, 2, 5 is `0-2,5`."""
    ranges: list[list[int]] = []
    for state in sorted(states):
        if ranges and state == ranges[-1][1] + 1:
            ranges[-1][1] = state
        else:
            ranges.append([state, state])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)

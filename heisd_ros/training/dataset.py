"""Demonstrations as one block of training samples in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from heisd_ros.data.episode import Episode
from heisd_ros.data.marks import Outcome
from heisd_ros.data.source import Prepare, Source, whole
from heisd_ros.errors import DemonstrationError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.proprio import (
    PROPRIO_SIZE,
    STATE_SIZES,
    pose_vector,
    proprio_vector,
)
from heisd_ros.training.selection import robot_of


@dataclass(frozen=True)
class Samples:
    """N single steps.

    Attributes:
        images: [N, V, H, W, 3] uint8.
        proprio: [N, 7] float32.
        actions: [N, 7] float64, LIBERO's units.
        instruction: [N] index into `instructions`.
        landmarks: [N, 6] float32: item and target relative to the tip, m; NaN where unknown.
        instructions: The distinct instructions.
        chunks: [N, H, 7] float64, the actions of H control steps from each on; None: H is 1.
        reasonings: [N] strings, what is to be said at each step; None: nothing.
        weights: [N] float32, how often each is drawn, relative to the others; None: all alike.
    """

    images: Tensor
    proprio: Tensor
    actions: np.ndarray
    instruction: Tensor
    landmarks: Tensor
    instructions: tuple[str, ...]
    weights: Tensor | None = None
    chunks: np.ndarray | None = None
    reasonings: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.actions)


def demonstration_files(folders: Sequence[Path]) -> list[Path]:
    """Lists every `*_demo.hdf5` in the folders, folder by folder.

    Raises:
        DemonstrationError: A folder has none.
    """
    files: list[Path] = []
    for folder in folders:
        found = sorted(folder.glob("*_demo.hdf5"))
        if not found:
            raise DemonstrationError(
                f"{folder} holds no *_demo.hdf5 file; `heisd demos` makes them"
            )
        files += found
    return files


def load_samples(
    sources: Sequence[Source],
    views: Sequence[str],
    person_weight: float = 1.0,
    policy_weight: float = 1.0,
    control_rate_hz: float = 0.0,
    prepare: Prepare = whole,
    horizon: int = 1,
    reasoning: bool = False,
) -> Samples:
    """Reads every episode of some sources; discarded ones are left out.

    Args:
        sources: Where the episodes are, all of one robot.
        views: Camera views, in the model's order.
        person_weight: Weight of a step in which a person had the arm, where a recording says who
            had it.
        policy_weight: Weight of a policy's steps in such recordings; 0: as in DAgger (Ross et al.,
            2011; Kelly et al., 2019, HG-DAgger), where only the person is learned from: of chunks,
            those that are the person's to the end.
        control_rate_hz: The model's, which the sources have to have; 0: any.
        prepare: Makes pictures of the model's size.
        horizon: Control steps of a chunk.
        reasoning: Whether every step must have its reasoning.

    Raises:
        DemonstrationError: The sources are of two robots, of another rate, not fit to be learned
            from, have pictures of several sizes, no step that has a weight, an episode that is
            shorter than a chunk, or one without reasonings where these are needed.
        HeisdError: A source cannot be read, or has none of the views.
    """
    robot_of(sources, control_rate_hz, DemonstrationError)
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("images", "proprio", "actions", "instruction", "landmarks", "weights")
    }
    chunks: list[np.ndarray] = []
    reasonings: list[np.ndarray] = []
    instructions: list[str] = []
    for source in sources:
        outlines = source.outline()
        if source.report.unusable:
            raise DemonstrationError(f"{source.label}: {source.report.unusable}")
        for place, outline in enumerate(outlines):
            if outline.outcome == Outcome.DISCARD:
                continue
            episode = source.episode(place, views, prepare)
            if episode.instruction not in instructions:
                instructions.append(episode.instruction)
            proprio = episode_proprio(episode, source.arm)
            landmarks = np.full((len(episode), 6), np.nan, dtype=np.float32)
            if episode.landmarks is not None:
                landmarks = episode.landmarks - np.tile(proprio[:, :3], 2)
            columns["images"].append(np.stack([episode.images[view] for view in views], axis=1))
            columns["proprio"].append(proprio)
            columns["actions"].append(episode.actions)
            columns["instruction"].append(
                np.full(len(episode), instructions.index(episode.instruction))
            )
            columns["landmarks"].append(landmarks.astype(np.float32))
            columns["weights"].append(_weights(episode, person_weight, policy_weight, horizon))
            if len(episode) * episode.stride < horizon:
                raise DemonstrationError(
                    f"{source.label}: an episode lasts {len(episode) * episode.stride} control "
                    f"steps; a chunk has {horizon}"
                )
            if horizon > 1:
                chunks.append(action_chunks(episode, horizon))
            if reasoning and episode.reasoning is None:
                raise DemonstrationError(
                    f"{source.label}: an episode has no reasonings; `heisd relabel` writes them"
                )
            if reasoning and episode.reasoning is not None:
                reasonings.append(episode.reasoning)
    if not sum(weights.sum() for weights in columns["weights"]):
        raise DemonstrationError(
            f"{[source.label for source in sources]} hold no step to learn from: every episode is "
            "discarded, or of weight 0"
        )
    sizes = sorted({images.shape[2:4] for images in columns["images"]})
    if len(sizes) > 1:
        raise DemonstrationError(f"pictures have the sizes {sizes}; accepted: one")
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Samples(
        images=torch.from_numpy(joined["images"]),
        proprio=torch.from_numpy(joined["proprio"]),
        actions=joined["actions"],
        instruction=torch.from_numpy(joined["instruction"]),
        landmarks=torch.from_numpy(joined["landmarks"]),
        instructions=tuple(instructions),
        chunks=np.concatenate(chunks) if chunks else None,
        reasonings=np.concatenate(reasonings) if reasoning else None,
        weights=None if (joined["weights"] == 1.0).all() else torch.from_numpy(joined["weights"]),
    )


def action_chunks(episode: Episode, horizon: int) -> np.ndarray:
    """Returns the actions of H control steps from each recorded step on, (T, H, D).

    Between recorded steps the pose follows the straight line from one action to the next, and the
    gripper's command holds; behind the end the last action goes on.
    """
    steps = np.arange(len(episode))[:, None] + np.arange(horizon) / episode.stride
    steps = np.minimum(steps, len(episode) - 1)
    low = np.floor(steps).astype(int)
    high, share = np.minimum(low + 1, len(episode) - 1), (steps - low)[..., None]
    chunks: np.ndarray = episode.actions[low] * (1 - share) + episode.actions[high] * share
    chunks[..., -1] = episode.actions[low, -1]
    return chunks


def _weights(episode: Episode, person: float, policy: float, horizon: int) -> np.ndarray:
    """Returns the weight of each step (T,), float32; 1 where nothing says who had the arm.

    A chunk is of all steps that it reaches: the least of their weights counts.
    """
    if episode.person is None:
        return np.ones(len(episode), np.float32)
    weights = np.where(episode.person, person, policy).astype(np.float32)
    reach = -(-(horizon - 1) // episode.stride)
    ahead = np.pad(weights, (0, reach), mode="edge")
    least: np.ndarray = np.lib.stride_tricks.sliding_window_view(ahead, reach + 1).min(axis=1)
    return least


def episode_proprio(episode: Episode, arm: ArmKinematics, size: int = PROPRIO_SIZE) -> np.ndarray:
    """Returns the proprioception (T, size), float32, as the node computes it from live joints.

    Args:
        episode: The episode.
        arm: Kinematics of its robot.
        size: One of `STATE_SIZES`, which says what the numbers are.
    """
    pack = pose_vector if size == STATE_SIZES["pose"] else proprio_vector
    return np.stack(
        [
            pack(arm.forward(joints), opening)
            for joints, opening in zip(
                episode.joint_positions, episode.gripper_opening, strict=True
            )
        ]
    )

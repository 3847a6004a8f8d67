"""Demonstrations as one block of training samples in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from heisd_ros.data.episode import Episode
from heisd_ros.data.libero_hdf5 import read_episodes
from heisd_ros.errors import DemonstrationError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.proprio import proprio_vector
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf


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
    """

    images: Tensor
    proprio: Tensor
    actions: np.ndarray
    instruction: Tensor
    landmarks: Tensor
    instructions: tuple[str, ...]

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


def load_samples(folders: Sequence[Path], views: Sequence[str]) -> Samples:
    """Reads every `*_demo.hdf5` of some folders.

    Args:
        folders: Where the files are.
        views: Camera views, in the model's order.

    Raises:
        DemonstrationError: No files, or one that cannot be read.
    """
    paths = demonstration_files(folders)
    arm = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("images", "proprio", "actions", "instruction", "landmarks")
    }
    instructions: list[str] = []
    for path in paths:
        for episode in read_episodes(path, tuple(views)):
            if episode.instruction not in instructions:
                instructions.append(episode.instruction)
            proprio = episode_proprio(episode, arm)
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
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Samples(
        images=torch.from_numpy(joined["images"]),
        proprio=torch.from_numpy(joined["proprio"]),
        actions=joined["actions"],
        instruction=torch.from_numpy(joined["instruction"]),
        landmarks=torch.from_numpy(joined["landmarks"]),
        instructions=tuple(instructions),
    )


def episode_proprio(episode: Episode, arm: ArmKinematics) -> np.ndarray:
    """Returns the proprioception (T, 7), float32, as the node computes it from live joints."""
    return np.stack(
        [
            proprio_vector(arm.forward(joints), opening)
            for joints, opening in zip(
                episode.joint_positions, episode.gripper_opening, strict=True
            )
        ]
    )

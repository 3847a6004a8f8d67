"""Episodes and training samples of random numbers, in the shapes of recorded ones."""

from __future__ import annotations

import numpy as np
import torch

from heisd_ros.data.episode import Episode
from heisd_ros.training.dataset import Samples

VIEWS = ("agentview", "wrist")


def episode(steps=3, seed=0, size=8, **changes):
    """An episode in which every number differs."""
    rng = np.random.default_rng(seed)
    fields = {
        "instruction": "pick up the bowl",
        "images": {v: rng.integers(0, 256, (steps, size, size, 3), dtype=np.uint8) for v in VIEWS},
        "actions": rng.uniform(-1, 1, (steps, 7)),
        "joint_positions": rng.uniform(-1, 1, (steps, 7)),
        "joint_velocities": rng.uniform(-1, 1, (steps, 7)),
        # Halves and sums of these are exact.
        "gripper_opening": rng.integers(0, 80, steps) / 1024,
        "landmarks": rng.uniform(0, 1, (steps, 6)),
        "init_state": 7,
        "stride": 2,
    }
    return Episode(**(fields | changes))


def samples(number=2, seed=0):
    """Samples for the model that ships: pictures of two shades, instructions in turn."""
    rng = np.random.default_rng(seed)
    shades = rng.integers(0, 256, (number, len(VIEWS), 1, 1, 3), dtype=np.uint8)
    return Samples(
        images=torch.from_numpy(shades).expand(-1, -1, 128, 128, -1).contiguous(),
        proprio=torch.from_numpy(rng.normal(size=(number, 7)).astype(np.float32)),
        actions=np.column_stack([rng.uniform(-1, 1, (number, 6)), rng.choice([-1, 1], number)]),
        instruction=torch.arange(number) % 2,
        landmarks=torch.from_numpy(rng.uniform(-0.2, 0.2, (number, 6)).astype(np.float32)),
        instructions=("pick up the bowl", "open the drawer"),
    )

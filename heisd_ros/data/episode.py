"""An episode of synchronised steps, as every reader of recordings gives it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Episode:
    """T steps of one task.

    Attributes:
        instruction: What the robot was told.
        images: View name to (T, H, W, 3) uint8 RGB, upright.
        actions: (T, 7) float64, LIBERO's units: six deltas in [-1, 1], gripper -1 open, 1 close.
        joint_positions: (T, 7) rad.
        joint_velocities: (T, 7) rad/s, or None where the recording has none.
        gripper_opening: (T,) distance between the fingers, m.
        landmarks: (T, 6) positions of the item and of its target, m, robot base frame, or None
            where unknown. Known in simulation only; used by an auxiliary training loss.
        init_state: Number of the fixed initial state that it started from, or None.
        stride: Control steps between two recorded steps (1: every step).
    """

    instruction: str
    images: dict[str, np.ndarray]
    actions: np.ndarray
    joint_positions: np.ndarray
    joint_velocities: np.ndarray | None
    gripper_opening: np.ndarray
    landmarks: np.ndarray | None = None
    init_state: int | None = None
    stride: int = 1

    def __len__(self) -> int:
        """Number of recorded steps."""
        return len(self.actions)

"""An episode of synchronised steps, as every reader of recordings gives it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

_ROW_SHAPES: dict[str, tuple[int, ...]] = {
    "actions": (7,),
    "joint_positions": (7,),
    "joint_velocities": (7,),
    "gripper_opening": (),
    "landmarks": (6,),
}


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

    Raises:
        ValueError: There is no step, or an array does not have the shape above.
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

    def __post_init__(self) -> None:
        """Validates the shapes."""
        steps = len(self.actions)
        if steps < 1:
            raise ValueError("an episode has at least one step, got none")
        for name, row in _ROW_SHAPES.items():
            array = getattr(self, name)
            if array is not None and array.shape != (steps, *row):
                raise ValueError(f"{name} must have shape {(steps, *row)}, got {array.shape}")
        for view, images in self.images.items():
            right = images.dtype == np.uint8 and images.ndim == 4
            if not right or len(images) != steps or images.shape[-1] != 3:
                raise ValueError(
                    f"images of {view!r} must be uint8 of shape ({steps}, H, W, 3), "
                    f"got {images.dtype} of {images.shape}"
                )

    def __len__(self) -> int:
        """Number of recorded steps."""
        return len(self.actions)

    def thinned(self, every: int) -> Episode:
        """Every n-th recorded step, from the first on."""
        rows = {name: getattr(self, name) for name in _ROW_SHAPES}
        thin: dict[str, Any] = {
            name: None if array is None else array[::every] for name, array in rows.items()
        }
        images = {view: pictures[::every] for view, pictures in self.images.items()}
        return replace(self, **thin, images=images, stride=self.stride * every)

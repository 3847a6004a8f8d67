"""An episode of synchronised steps, as every reader of recordings returns it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

_ROW_SHAPES: dict[str, tuple[int | None, ...]] = {
    "actions": (7,),
    "joint_positions": (None,),
    "joint_velocities": (None,),
    "gripper_opening": (),
    "landmarks": (6,),
    "person": (),
    "reasoning": (),
}


@dataclass(frozen=True)
class Episode:
    """T steps of one task.

    Attributes:
        instruction: The task in words.
        images: View name to (T, H, W, 3) uint8 RGB, upright.
        actions: (T, 7) float64 in the units of the model: six deltas of one control step and the
            gripper. LIBERO's are in [-1, 1], gripper -1 open, 1 close.
        joint_positions: (T, n) rad, the arm's joints from base to tip.
        joint_velocities: (T, n) rad/s, or None where the recording has none.
        gripper_opening: (T,) distance between the fingers, m.
        landmarks: (T, 6) positions of the item and of its target, m, robot base frame, or None
            where unknown. Known in simulation only; used by an auxiliary training loss.
        init_state: Number of the fixed initial state that it started from, or None.
        stride: Control steps between two recorded steps (1: every step).
        person: (T,) bool, the steps in which a person had the arm; None where unknown.
        reasoning: (T,) strings, what a reasoning model is to say before it acts, or None.
        outcome: "success" or "failure", as reported; empty where it was not.

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
    person: np.ndarray | None = None
    outcome: str = ""
    reasoning: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks the shapes; raises ValueError."""
        steps = len(self.actions)
        if steps < 1:
            raise ValueError("an episode has at least one step, got none")
        for name, row in _ROW_SHAPES.items():
            array = getattr(self, name)
            wanted = (steps, *(self.joint_positions.shape[-1] if n is None else n for n in row))
            if array is not None and array.shape != wanted:
                raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")
        for view, images in self.images.items():
            right = images.dtype == np.uint8 and images.ndim == 4
            if not right or len(images) != steps or images.shape[-1] != 3:
                raise ValueError(
                    f"images of {view!r} must be uint8 of shape ({steps}, H, W, 3), "
                    f"got {images.dtype} of {images.shape}"
                )

    def __len__(self) -> int:
        """Number of recorded steps, T."""
        return len(self.actions)

    def thinned(self, every: int) -> Episode:
        """Returns the episode with every n-th recorded step, from the first on."""
        rows = {name: getattr(self, name) for name in _ROW_SHAPES}
        thin: dict[str, Any] = {
            name: None if array is None else array[::every] for name, array in rows.items()
        }
        images = {view: pictures[::every] for view, pictures in self.images.items()}
        return replace(self, **thin, images=images, stride=self.stride * every)

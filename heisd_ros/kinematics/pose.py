"""A rigid pose in a named frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

# Loose enough for a rotation that went through float32 or a message, tight enough to catch a
# matrix that is transposed in memory, scaled or a reflection.
_ORTHONORMAL_TOLERANCE = 1e-4

ACTION_SIZE = 7
"""Numbers of a step of an end effector: translation, rotation, gripper."""
END_EFFECTOR = "end_effector"
"""Action space of a model whose actions are steps of the end effector."""
JOINT_SPACES = ("joint_velocity", "joint_position")
"""Action spaces of a model that commands the joints: velocities (rad/s) or positions (rad)."""


@dataclass(frozen=True, eq=False)
class Pose:
    """A position and an orientation, in whatever frame the producer states.

    Attributes:
        position: shape (3,), metres, float64.
        rotation: shape (3, 3), float64; columns are the axes of the posed frame.

    Raises:
        ValueError: a shape is wrong, a number is not finite, or `rotation` is not a rotation.
    """

    position: np.ndarray
    rotation: np.ndarray

    def __post_init__(self) -> None:
        """Converts to float64 and validates."""
        position = np.array(self.position, dtype=np.float64)
        rotation = np.array(self.rotation, dtype=np.float64)
        if position.shape != (3,) or not np.isfinite(position).all():
            raise ValueError(f"position must be 3 finite numbers, got {self.position!r}")
        if rotation.shape != (3, 3) or not np.isfinite(rotation).all():
            raise ValueError(f"rotation must be 3 x 3 finite numbers, got {self.rotation!r}")
        skew = np.abs(rotation.T @ rotation - np.eye(3)).max()
        if skew > _ORTHONORMAL_TOLERANCE or np.linalg.det(rotation) < 0.0:
            raise ValueError(f"rotation must be a right-handed rotation, got {self.rotation!r}")
        object.__setattr__(self, "position", position)
        object.__setattr__(self, "rotation", rotation)

    def moved(self, motion: np.ndarray) -> Pose:
        """Returns the pose after a displacement.

        Args:
            motion: (6,), m and rad (a rotation vector), along the axes of the pose's frame.
        """
        turned = Rotation.from_rotvec(motion[3:]) * Rotation.from_matrix(self.rotation)
        return Pose(self.position + motion[:3], turned.as_matrix())


def turn(rotation: np.ndarray, twist: np.ndarray) -> np.ndarray:
    """Rotates both parts of a twist into another frame.

    Args:
        rotation: (3, 3).
        twist: (6,), linear, then angular.
    """
    return np.concatenate([rotation @ twist[:3], rotation @ twist[3:]])

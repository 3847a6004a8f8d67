"""What the simulated arm needs of a scene, so that a test can bring its own without MuJoCo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from heisd_ros.kinematics.pose import Pose


class ArmScene(Protocol):
    """One task in a simulated cell; see `heisd_ros.sim.scene.LiberoScene`, which fulfils it."""

    @property
    def instruction(self) -> str:
        """What the task asks for, in words."""

    @property
    def cameras(self) -> Sequence[str]:
        """Camera names: the view of the scene, then that of the wrist."""

    def reset(self, init_state: int) -> None:
        """Starts an episode; raises SceneError for a state that the task does not have."""

    def step(self, action: np.ndarray) -> None:
        """Advances by one control step; (7,), LIBERO's units."""

    def success(self) -> bool:
        """Whether the task's goal holds now."""

    def images(self) -> dict[str, np.ndarray]:
        """Camera name to (height, width, 3) uint8 RGB, upright."""

    def joint_positions(self) -> np.ndarray:
        """(7,), rad."""

    def joint_velocities(self) -> np.ndarray:
        """(7,), rad/s."""

    def gripper_positions(self) -> np.ndarray:
        """(2,), m, of opposite sign."""

    def gripper_velocities(self) -> np.ndarray:
        """(2,), m/s, of opposite sign."""

    def tip_pose(self) -> Pose:
        """Pose of the point between the finger tips, base frame."""

    def close(self) -> None:
        """Frees the scene."""


SceneFactory = Callable[[str, int, int], ArmScene]
"""Makes a scene from suite, task index and image size; raises SceneError."""


def libero_scene(suite: str, task_index: int, image_size: int) -> ArmScene:
    """The real thing; imports MuJoCo and LIBERO, and takes seconds.

    Raises:
        SceneError: There is no such task.
    """
    from heisd_ros.sim.scene import LiberoScene

    return LiberoScene(suite, task_index, image_size)

"""Interface of a scene for the simulated arm, so that a test can pass its own without MuJoCo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from heisd_ros.kinematics.pose import Pose


class ArmScene(Protocol):
    """One task in a simulated cell; `heisd_ros.sim.scene.LiberoScene` implements it."""

    @property
    def instruction(self) -> str:
        """Instruction of the task."""

    @property
    def cameras(self) -> Sequence[str]:
        """Names of the cameras: the scene's, then the wrist's."""

    def reset(self, init_state: int) -> None:
        """Starts an episode; raises SceneError for a state that the task does not have."""

    def step(self, action: np.ndarray) -> None:
        """Advances by one control step with an action, (7,), LIBERO's units."""

    def success(self) -> bool:
        """Whether the task's goal holds now."""

    def images(self) -> dict[str, np.ndarray]:
        """Returns the pictures by camera, (height, width, 3) uint8 RGB, upright."""

    def joint_positions(self) -> np.ndarray:
        """Returns the joint positions of the arm, (7,), rad."""

    def joint_velocities(self) -> np.ndarray:
        """Returns the joint velocities of the arm, (7,), rad/s."""

    def gripper_positions(self) -> np.ndarray:
        """Returns the finger positions, (2,), m, of opposite sign."""

    def gripper_velocities(self) -> np.ndarray:
        """Returns the finger velocities, (2,), m/s, of opposite sign."""

    def tip_pose(self) -> Pose:
        """Returns the pose of the point between the finger tips, base frame."""

    def close(self) -> None:
        """Frees the simulator of the scene."""


SceneFactory = Callable[[str, int, int], ArmScene]
"""Makes a scene from suite, task index and image size; raises SceneError."""


def libero_scene(suite: str, task_index: int, image_size: int) -> ArmScene:
    """Creates a LIBERO scene. Imports MuJoCo and LIBERO, which takes seconds.

    Raises:
        SceneError: The task does not exist.
    """
    from heisd_ros.sim.scene import LiberoScene

    return LiberoScene(suite, task_index, image_size)

"""Where the arm is, from joint states, for drawing."""

from __future__ import annotations

from typing import Any

import numpy as np

from heisd_ros.errors import HeisdError, JointStateError
from heisd_ros.kinematics.joint_states import JointStateReader
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.robot_arm import make_reader, urdf_text


class DrawnArm:
    """The arm of a robot's parameters; one that cannot be read is not drawn, and says why.

    Args:
        parameters: The robot. With `robot.source` 'topic' it is not known before `describe`.

    Attributes:
        problem: Why the arm is not drawn; empty while it is, or while nothing is known of it.
    """

    def __init__(self, parameters: VlaNodeParameters) -> None:
        self._parameters = parameters
        self._reader: JointStateReader | None = None
        self._urdf = self.problem = ""
        if not self.described:
            try:
                self._reader = make_reader(parameters, urdf_text(parameters))
            except (HeisdError, ValueError) as error:
                self.problem = str(error)

    @property
    def base_frame(self) -> str:
        """The frame in which it is drawn."""
        return self._parameters.robot.base_frame

    @property
    def described(self) -> bool:
        """Whether its description comes from a topic."""
        return self._parameters.robot.source == "topic"

    def describe(self, urdf: str) -> None:
        """Takes a robot description from a topic; one that cannot be used is a `problem`."""
        if not self.described or urdf == self._urdf:
            return
        try:
            self._reader, self._urdf = make_reader(self._parameters, urdf), urdf
        except (HeisdError, ValueError) as error:
            self.problem = f"robot_description: {error}"

    def points(self, message: Any) -> np.ndarray | None:
        """Returns the line from the base to the tip for a sensor_msgs/JointState.

        Returns:
            (m, 3), m, base frame; None if the message names none of the arm's joints, cannot be
            read, or nothing is known of the arm.
        """
        if self._reader is None or not self._reader.concerns_arm(message):
            return None
        kinematics = self._reader.kinematics
        try:
            sample = kinematics.reorder(message.name, message.position)
            points = kinematics.skeleton(sample.positions)
        except JointStateError as error:
            self.problem = str(error)
            return None
        self.problem = ""
        return points

"""Joint-state messages to the arm's state: joints by name, finger opening, metric sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from heisd_ros.errors import JointStateError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.kinematics.pose import Pose


@dataclass(frozen=True, eq=False)
class ArmState:
    """The arm at one moment.

    Attributes:
        kinematics: The arm that the joints belong to.
        positions: (n,), rad, in the arm's joint order.
        velocities: (n,), rad/s, or None where the message has none that are finite.
        gripper_opening: Distance between the fingers, m, or None where no finger joint was seen.
        motion: The kinematic metric at that moment; None where it is not measured.
    """

    kinematics: ArmKinematics
    positions: np.ndarray
    velocities: np.ndarray | None
    gripper_opening: float | None
    motion: MetricSample | None = None

    @cached_property
    def _pose(self) -> Pose:
        return self.kinematics.forward(self.positions)

    def tip(self) -> Pose:
        """Pose of the tip in the base frame, computed once."""
        return self._pose

    def tip_velocity(self) -> np.ndarray | None:
        """(3,), m/s, base frame: linear velocity of the tip; None without joint velocities."""
        if self.velocities is None:
            return None
        return self.kinematics.twist(self.positions, self.velocities)[:3]


class JointStateReader:
    """Takes the arm's joints out of messages that may name other joints, in any order.

    Args:
        kinematics: The arm; its joint names say what to look for.
        gripper_joints: Finger joints; they may come in messages of their own.
    """

    def __init__(self, kinematics: ArmKinematics, gripper_joints: Sequence[str]) -> None:
        self.kinematics = kinematics
        self._fingers = [name for name in gripper_joints if name]
        self._finger_positions: dict[str, float] = {}

    def concerns_arm(self, message: Any) -> bool:
        """Whether a message names any joint of the arm (a gripper driver's names none)."""
        return not set(self.kinematics.joint_names).isdisjoint(message.name)

    def read(self, message: Any) -> ArmState:
        """Reads one sensor_msgs/JointState that names the arm's joints.

        Raises:
            JointStateError: A joint is missing or repeated, lengths differ, or a position is not
                finite; the message says which.
        """
        sample = self.kinematics.reorder(message.name, message.position, message.velocity)
        self.read_fingers(message)
        return ArmState(self.kinematics, sample.positions, sample.velocities, self._opening())

    def read_fingers(self, message: Any) -> None:
        """Takes the finger joints out of a message, whatever else it names.

        Raises:
            JointStateError: A finger's position is missing or not finite.
        """
        for name, index in ((n, i) for i, n in enumerate(message.name) if n in self._fingers):
            position = message.position[index] if index < len(message.position) else math.nan
            if not math.isfinite(position):
                raise JointStateError(f"position of {name} is {position}; accepted: finite")
            self._finger_positions[name] = float(position)

    def _opening(self) -> float | None:
        if not self._finger_positions:
            return None
        # URDFs open both fingers along +; simulators may count one along -. The sum of distances
        # from the closed position serves both.
        return sum(abs(position) for position in self._finger_positions.values())

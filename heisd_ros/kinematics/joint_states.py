"""Joint-state messages to the arm's state: joints by name, finger opening, metric sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
        gripper_opening: Distance between the fingers, m, or None where it is not known.
        motion: The kinematic metric at that moment; None where it is not measured.
        unseen_fingers: Finger joints without a recent position.
    """

    kinematics: ArmKinematics
    positions: np.ndarray
    velocities: np.ndarray | None
    gripper_opening: float | None
    motion: MetricSample | None = None
    unseen_fingers: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class FingerTravel:
    """The opening of a gripper whose finger joint has an angle, interpolated linearly.

    Attributes:
        joint_closed: Position of the joint where the gripper is closed, rad.
        joint_open: The same where it is open; another one.
        closed: Opening where it is closed, m.
        open: Opening where it is open, m.
    """

    joint_closed: float
    joint_open: float
    closed: float
    open: float

    def opening(self, position: float) -> float:
        """Returns the opening (m) at a position of the joint (rad)."""
        share = (position - self.joint_closed) / (self.joint_open - self.joint_closed)
        return self.closed + share * (self.open - self.closed)


class JointStateReader:
    """Reads the arm's joints from messages that may name other joints, in any order.

    Args:
        kinematics: The arm; its joint names say what to look for.
        gripper_joints: Finger joints; they may come in messages of their own.
        finger_timeout_sec: Age from which a finger's position counts as unknown.
        limits: Joint name to (lower, upper), rad, in place of the limits of the description.
        travel: Of each finger joint; None: it counts metres from closed.
    """

    def __init__(
        self,
        kinematics: ArmKinematics,
        gripper_joints: Sequence[str],
        finger_timeout_sec: float = math.inf,
        limits: Mapping[str, tuple[float, float]] | None = None,
        travel: FingerTravel | None = None,
    ) -> None:
        self.kinematics = kinematics
        self.limits = limits or {}
        self._travel = travel
        self._fingers = [name for name in gripper_joints if name]
        self._timeout_ns = finger_timeout_sec * 1e9
        self._finger_positions: dict[str, tuple[float, int]] = {}

    def concerns_arm(self, message: Any) -> bool:
        """Whether a message names any joint of the arm (a gripper driver's names none)."""
        return not set(self.kinematics.joint_names).isdisjoint(message.name)

    def read(self, message: Any, now: int = 0) -> ArmState:
        """Reads one sensor_msgs/JointState that names the arm's joints.

        Args:
            message: The message.
            now: When it was received, ns, on the clock by which fingers age.

        Raises:
            JointStateError: A joint is missing or repeated, lengths differ, or a position is not
                finite; the message says which.
        """
        sample = self.kinematics.reorder(message.name, message.position, message.velocity)
        self.read_fingers(message, now)
        unseen = tuple(name for name in self._fingers if not self._seen(name, now))
        return ArmState(
            self.kinematics,
            sample.positions,
            sample.velocities,
            None if unseen or not self._fingers else self._opening(),
            unseen_fingers=unseen,
        )

    def read_fingers(self, message: Any, now: int = 0) -> None:
        """Reads the finger joints in a message, whatever else it names.

        Raises:
            JointStateError: A finger's position is missing or not finite.
        """
        for name, index in ((n, i) for i, n in enumerate(message.name) if n in self._fingers):
            position = message.position[index] if index < len(message.position) else math.nan
            if not math.isfinite(position):
                raise JointStateError(f"position of {name} is {position}; accepted: finite")
            self._finger_positions[name] = float(position), now

    def _seen(self, name: str, now: int) -> bool:
        if name not in self._finger_positions:
            return False
        return now - self._finger_positions[name][1] <= self._timeout_ns

    def _opening(self) -> float:
        positions = [position for position, _ in self._finger_positions.values()]
        if self._travel is not None:
            return sum(map(self._travel.opening, positions)) / len(positions)
        # URDFs open both fingers along +; simulators may count one along -. The sum of distances
        # from the closed position serves both.
        return sum(map(abs, positions))

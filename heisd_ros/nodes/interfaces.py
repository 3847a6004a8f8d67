"""What is sent to the arm: a twist, a target pose, or the action as the model gave it.

One small class each behind one protocol, chosen by `command.interface`. None of them ever sends a
"zero" position: an arm is halted by a twist of zero, by the pose in which it stands, or by a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from heisd_ros.kinematics.pose import Pose
from heisd_ros.msg import ActionDelta
from heisd_ros.nodes.geometry import pose_message, turn, twist_message
from heisd_ros.nodes.outlet import outlet
from heisd_ros.nodes.parameters import VlaNodeParameters


@dataclass(frozen=True, eq=False)
class Outgoing:
    """One command.

    Attributes:
        twist: (6,), within the limits, m/s and rad/s in the base frame.
        measured: Pose of the tip in the base frame; None where it is not known.
        action: (7,), as the model gave it, the first time that it is sent; None otherwise.
        held: Whether the arm is being halted, or stands because it is held.
        at_rest: Whether the halt is over.
        stamp: For the header.
    """

    twist: np.ndarray
    measured: Pose | None
    action: np.ndarray | None
    held: bool
    at_rest: bool
    stamp: Time


class CommandInterface(Protocol):
    """A way to command an arm. It exists only while the node is active."""

    def position(self, measured: Pose) -> np.ndarray:
        """(3,), m: where the arm was told to be, or is, where nothing else was said."""

    def send(self, command: Outgoing) -> None:
        """Sends a command."""

    def close(self, timeout_sec: float) -> bool:
        """Waits until the last command was received, and takes the topic down.

        Returns:
            Whether every subscriber acknowledged it in time.
        """


class TwistInterface:
    """TwistStamped on `~/output/twist`, in SI units or in shares of Servo's scales.

    Args:
        node: The node that owns the topic.
        parameters: Frame and units.
    """

    def __init__(self, node: Node, parameters: VlaNodeParameters) -> None:
        self._topic = outlet(node, TwistStamped, "~/output/twist", parameters.dry_run)
        self._frame_id = parameters.frame_id
        self._along_tip = parameters.frame_id != parameters.robot_base_frame
        self._seen: Pose | None = None  # a halt goes on along the axes that were seen last
        self._scales = np.ones(6)
        if parameters.units == "unitless":
            self._scales[:3] = parameters.unitless_linear
            self._scales[3:] = parameters.unitless_angular

    def position(self, measured: Pose) -> np.ndarray:
        """Where the arm is."""
        return measured.position

    def send(self, command: Outgoing) -> None:
        """Sends the twist, along the axes of `command.frame_id`."""
        twist = command.twist
        self._seen = command.measured or self._seen
        if self._along_tip and self._seen is not None:
            twist = turn(self._seen.rotation.T, twist)
        self._topic.publish(twist_message(twist / self._scales, command.stamp, self._frame_id))

    def close(self, timeout_sec: float) -> bool:
        """Takes the topic down."""
        return self._topic.close(timeout_sec)


class PoseInterface:
    """PoseStamped on `~/output/pose`: the twist, integrated from where the arm is.

    The target starts from the measured pose at activation and whenever the arm has stood in a hold,
    and is never further ahead of it than the parameters say. In a hold it comes to a stand with the
    twist; then the pose measured at that moment is the target, and is repeated.

    Args:
        node: The node that owns the topic.
        parameters: Frame and lead.
        tick_sec: Time for which a twist is integrated, s.
    """

    def __init__(self, node: Node, parameters: VlaNodeParameters, tick_sec: float) -> None:
        self._topic = outlet(node, PoseStamped, "~/output/pose", parameters.dry_run)
        self._frame_id, self._tick = parameters.frame_id, tick_sec
        self._lead = parameters.max_lead_m, parameters.max_lead_rad
        self._target: Pose | None = None
        self._standing = False

    def position(self, measured: Pose) -> np.ndarray:
        """Where the arm was told to be: that, too, has to stay in the workspace."""
        afresh = self._target is None or self._standing
        return measured.position if afresh else self._target.position  # type: ignore[union-attr]

    def send(self, command: Outgoing) -> None:
        """Moves the target on and sends it; nothing where it is not known where the arm is."""
        standing = command.held and command.at_rest
        if command.measured is not None and (self._target is None or standing != self._standing):
            self._target = command.measured
        if command.measured is not None or self._target is not None:
            self._standing = standing
        if self._target is None:
            return
        if not standing:
            self._target = self._ahead(self._target, command)
        self._topic.publish(pose_message(self._target, command.stamp, self._frame_id))

    def close(self, timeout_sec: float) -> bool:
        """Takes the topic down."""
        return self._topic.close(timeout_sec)

    def _ahead(self, target: Pose, command: Outgoing) -> Pose:
        """The target a tick later, as far ahead of the measured pose as it may be."""
        position = target.position + command.twist[:3] * self._tick
        rotation = Rotation.from_rotvec(command.twist[3:] * self._tick)
        rotation *= Rotation.from_matrix(target.rotation)
        if command.measured is not None:
            origin = Rotation.from_matrix(command.measured.rotation)
            lead = _clip(position - command.measured.position, self._lead[0])
            turned = _clip((rotation * origin.inv()).as_rotvec(), self._lead[1])
            position = command.measured.position + lead
            rotation = Rotation.from_rotvec(turned) * origin
        return Pose(position, rotation.as_matrix())


class DeltaInterface:
    """ActionDelta on `~/output/delta`: for a controller that maps and limits actions itself.

    Args:
        node: The node that owns the topic.
        parameters: Frame and convention.
        step_sec: The control step that the deltas are for, s.
    """

    def __init__(self, node: Node, parameters: VlaNodeParameters, step_sec: float) -> None:
        self._topic = outlet(node, ActionDelta, "~/output/delta", parameters.dry_run)
        self._frame_id, self._step = parameters.frame_id, step_sec
        self._rotation = parameters.rotation_convention

    def position(self, measured: Pose) -> np.ndarray:
        """Where the arm is."""
        return measured.position

    def send(self, command: Outgoing) -> None:
        """Sends a new action once, and a stop as often as it is asked for."""
        if command.action is None and not command.held:
            return
        action = [] if command.held or command.action is None else command.action.tolist()
        message = ActionDelta(
            header=Header(stamp=command.stamp, frame_id=self._frame_id),
            stop=command.held,
            action=action,
            rotation=self._rotation,
            duration=self._step,
        )
        self._topic.publish(message)

    def close(self, timeout_sec: float) -> bool:
        """Takes the topic down."""
        return self._topic.close(timeout_sec)


def make_interface(
    node: Node, parameters: VlaNodeParameters, tick_sec: float, step_sec: float
) -> CommandInterface:
    """The interface that `command.interface` names.

    Args:
        node: The node that owns its topic.
        parameters: The validated settings.
        tick_sec: Time from one command to the next, s.
        step_sec: Time of one control step, s.
    """
    if parameters.interface == "pose":
        return PoseInterface(node, parameters, tick_sec)
    if parameters.interface == "delta":
        return DeltaInterface(node, parameters, step_sec)
    return TwistInterface(node, parameters)


def _clip(vector: np.ndarray, length: float) -> np.ndarray:
    norm = float(np.linalg.norm(vector))
    return vector if norm <= length else vector * (length / norm)

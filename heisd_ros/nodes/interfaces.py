"""Command interfaces: a twist, a target pose, the action as the model gave it, or joints.

One class each behind one protocol, chosen by `command.interface`. None of them ever sends a "zero"
position: an arm is halted by a zero velocity, by a constant target, or by a stop flag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray, Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from heisd_ros.kinematics.pose import Pose, turn
from heisd_ros.msg import ActionDelta
from heisd_ros.nodes.command_publishers import CommandPublisher, command_publisher
from heisd_ros.nodes.geometry_messages import pose_message, twist_message
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.safety.lead import Lead


@dataclass(frozen=True, eq=False)
class Outgoing:
    """One command.

    Attributes:
        twist: (6,), within the limits, m/s and rad/s in the base frame.
        measured: Pose of the tip in the base frame; None if it is not known.
        action: The model's action, the first time that it is sent; None otherwise.
        held: Whether the arm is held: stopping, or stopped.
        at_rest: Whether it has stopped.
        stamp: Stamp of the header.
        motion: (6,), displacement of the twist since the previous command, m and rad in the base
            frame; None: that of one tick.
        elapsed_sec: Time since the previous command, s; None: a control step.
        joints: (n,), velocities of the joints, rad/s; None: the tip is commanded.
        target: (n,), positions of the joints, rad; None: not known, or not commanded.
    """

    twist: np.ndarray
    measured: Pose | None
    action: np.ndarray | None
    held: bool
    at_rest: bool
    stamp: Time
    motion: np.ndarray | None = None
    elapsed_sec: float | None = None
    joints: np.ndarray | None = None
    target: np.ndarray | None = None


class CommandInterface(Protocol):
    """A way to command the arm. It exists only while the node is active."""

    def position(self, measured: Pose) -> np.ndarray:
        """Returns the commanded position of the tip, else the measured one, (3,), m."""

    def lead(self, measured: Pose) -> Lead | None:
        """Returns how far the target pose leads the measured one; None if there is no target."""

    def send(self, command: Outgoing) -> str:
        """Sends a command.

        Returns:
            Why an action was not sent; empty if none was left out.
        """

    def close(self, timeout_sec: float) -> bool:
        """Waits until the last command was received, and destroys the publisher.

        Returns:
            Whether every subscriber acknowledged it in time.
        """


class _Published:
    """What most interfaces share: one topic, and no target pose."""

    def __init__(self, topic: CommandPublisher) -> None:
        self._topic = topic

    def position(self, measured: Pose) -> np.ndarray:
        """Returns the measured position, since no other is commanded."""
        return measured.position

    def lead(self, measured: Pose) -> Lead | None:
        """Returns None, since there is no target pose."""
        return None

    def close(self, timeout_sec: float) -> bool:
        """Waits for the last message and destroys the publisher."""
        return self._topic.close(timeout_sec)


class TwistInterface(_Published):
    """Publishes TwistStamped on `~/output/twist`, in SI units or in shares of Servo's scales."""

    def __init__(self, node: Node, parameters: VlaNodeParameters) -> None:
        super().__init__(
            command_publisher(node, TwistStamped, "~/output/twist", parameters.dry_run)
        )
        self._frame_id = parameters.command_frame
        self._along_tip = parameters.command_frame != parameters.robot.base_frame
        self._seen: Pose | None = None  # a halt continues along the last measured axes
        self._scales = np.ones(6)
        if parameters.command.units == "unitless":
            self._scales[:3] = parameters.command.unitless_linear
            self._scales[3:] = parameters.command.unitless_angular

    def send(self, command: Outgoing) -> str:
        """Publishes the twist, along the axes of `command.frame_id`."""
        twist = command.twist
        self._seen = command.measured or self._seen
        if self._along_tip and self._seen is not None:
            twist = turn(self._seen.rotation.T, twist)
        self._topic.publish(twist_message(twist / self._scales, command.stamp, self._frame_id))
        return ""


class PoseInterface(_Published):
    """Publishes PoseStamped on `~/output/pose`: the twist, integrated from the pose at activation.

    The target moves only by the twists of the safety filter, which takes its lead over the arm into
    account. So it keeps the limits whatever is measured. In a hold it stops with the twist and is
    repeated: an arm that sags below its target is not told to sag further.

    Args:
        node: The node that owns the topic.
        parameters: Frame and lead.
        tick_sec: Time for which a twist is integrated if the command gives no time, s.
    """

    def __init__(self, node: Node, parameters: VlaNodeParameters, tick_sec: float) -> None:
        super().__init__(command_publisher(node, PoseStamped, "~/output/pose", parameters.dry_run))
        self._frame_id, self._tick = parameters.command_frame, tick_sec
        self._lead = parameters.command.max_lead_m, parameters.command.max_lead_rad
        self._target: Pose | None = None
        self._sent: PoseStamped | None = None

    def position(self, measured: Pose) -> np.ndarray:
        """Returns the target's position, which has to stay in the workspace too."""
        return (self._target or measured).position

    def lead(self, measured: Pose) -> Lead | None:
        """Returns how far the target leads the measured pose."""
        return Lead.between(measured, self._target or measured, self._lead)

    def send(self, command: Outgoing) -> str:
        """Advances the target and publishes it; nothing while the arm's pose is not known."""
        target = self._target or command.measured
        if target is None:
            return ""
        motion = command.twist * self._tick if command.motion is None else command.motion
        self._target = target.moved(motion)
        self._sent = pose_message(self._target, command.stamp, self._frame_id, self._sent)
        self._topic.publish(self._sent)
        return ""


class DeltaInterface(_Published):
    """Publishes ActionDelta on `~/output/delta`, for a controller that limits actions itself.

    Each action is for one control step. If actions come faster than that, some are left out, since
    they would add up to more motion than the limit.

    Args:
        node: The node that owns the topic.
        parameters: Frame and convention.
        step_sec: The control step that the deltas are for, s.
    """

    def __init__(self, node: Node, parameters: VlaNodeParameters, step_sec: float) -> None:
        super().__init__(command_publisher(node, ActionDelta, "~/output/delta", parameters.dry_run))
        self._frame_id, self._step = parameters.command_frame, step_sec
        self._rotation = parameters.command.rotation_convention
        self._free_sec = step_sec  # time that no action was sent for

    def send(self, command: Outgoing) -> str:
        """Publishes a new action once, and a stop every time."""
        elapsed = self._step if command.elapsed_sec is None else command.elapsed_sec
        self._free_sec = min(self._free_sec + max(elapsed, 0.0), self._step)
        if command.action is None and not command.held:
            return ""
        if not command.held:
            # Up to half a step early is jitter; the time is taken from the next action's.
            if self._free_sec < 0.5 * self._step:
                return f"not sent: the action before it is for {self._step:g} s"
            self._free_sec -= self._step
        action = [] if command.held or command.action is None else command.action.tolist()
        message = ActionDelta(
            header=Header(stamp=command.stamp, frame_id=self._frame_id),
            stop=command.held,
            action=action,
            rotation=self._rotation,
            duration=self._step,
        )
        self._topic.publish(message)
        return ""


class JointInterface(_Published):
    """Publishes joint velocities or positions, as ros2_control's controllers take them.

    A velocity comes with every command, zero at last. Positions begin where the arm was first seen.

    Args:
        node: The node that owns the topic.
        parameters: Interface, message and joints.
        tick_sec: Time from one command to the next, s.
    """

    def __init__(self, node: Node, parameters: VlaNodeParameters, tick_sec: float) -> None:
        command = parameters.command
        self._trajectory = command.joint_message == "trajectory"
        self._positions = not command.of_speeds
        self._names = list(parameters.robot.joint_names)
        self._due = Duration(nanoseconds=int(tick_sec * 1e9)).to_msg()
        kind = JointTrajectory if self._trajectory else Float64MultiArray
        topic = f"~/output/{command.interface}"
        super().__init__(command_publisher(node, kind, topic, parameters.dry_run))

    def send(self, command: Outgoing) -> str:
        """Publishes the command; no positions while the arm's are not known."""
        values = command.target if self._positions else command.joints
        if values is None:
            return ""
        if not self._trajectory:
            self._topic.publish(Float64MultiArray(data=values.tolist()))
            return ""
        point = JointTrajectoryPoint(time_from_start=self._due)
        # Never both: joint_trajectory_controller refuses a last point that has a velocity.
        if self._positions:
            point.positions = values.tolist()
        else:
            point.velocities = values.tolist()
        # A stamp of zero: the controller begins when the message comes, whatever its clock says.
        self._topic.publish(JointTrajectory(joint_names=self._names, points=[point]))
        return ""


def make_interface(
    node: Node, parameters: VlaNodeParameters, tick_sec: float, step_sec: float
) -> CommandInterface:
    """Creates the interface that `command.interface` names.

    Args:
        node: The node that owns its topic.
        parameters: The validated settings.
        tick_sec: Time from one command to the next, s.
        step_sec: Time of one control step, s.
    """
    made: dict[str, Callable[[], CommandInterface]] = {
        "twist": lambda: TwistInterface(node, parameters),
        "pose": lambda: PoseInterface(node, parameters, tick_sec),
        "delta": lambda: DeltaInterface(node, parameters, step_sec),
        "joint_velocity": lambda: JointInterface(node, parameters, tick_sec),
        "joint_position": lambda: JointInterface(node, parameters, tick_sec),
    }
    return made[parameters.command.interface]()

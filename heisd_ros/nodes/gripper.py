"""Sends gripper commands: always on a topic, and optionally as the driver's action or topic."""

from __future__ import annotations

from functools import partial
from typing import Any

from rclpy.action import ActionClient
from rclpy.action.client import GoalStatus
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64

from heisd_ros.nodes import optional
from heisd_ros.nodes.command_publishers import command_publisher
from heisd_ros.robot.parameters import VlaNodeParameters

LOG_PERIOD_SEC = 5.0


class GripperOutput:
    """Publishes `~/output/gripper` (Float64), and sends what `gripper.action` names.

    Goals are not waited for: the next one preempts the previous one in the driver. The same goal is
    sent again only if the server refused or aborted it, at most `gripper.attempts` times, since
    each one starts a new grasp.

    Args:
        node: The node that owns topics and client.
        parameters: The node's settings.

    Attributes:
        failure: Why the newest goal failed; empty if it did not.
        failures: Goals that were refused or aborted since activation.
    """

    def __init__(self, node: Node, parameters: VlaNodeParameters) -> None:
        self._node, self._parameters = node, parameters
        self._joint: Any = None
        self._client: ActionClient | None = None
        self._told: float | None = None  # opening of the newest goal
        self._sent: Future | None = None  # the newest goal's handle, once the server answered
        self._attempts = 0
        self.failure, self.failures = "", 0
        kind, dry = parameters.gripper.action, parameters.dry_run
        if kind and kind != "joint_state" and not dry:
            # First: a name that ROS refuses must leave no publisher behind.
            self._type = optional.gripper_action(kind)
            self._client = ActionClient(node, self._type, parameters.gripper.action_name)
        self._topic = command_publisher(node, Float64, "~/output/gripper", dry)
        if kind == "joint_state":
            self._joint = command_publisher(node, JointState, "~/output/gripper_joint", dry)

    def send(self, opening: float) -> None:
        """Commands an opening of the gripper, m."""
        self._topic.publish(Float64(data=opening))
        if self._joint is not None:
            self._joint.publish(self._joint_command(opening))
        if self._client is None or not self._due(opening):
            return
        if self._client.server_is_ready():
            self._attempts = 1 if opening != self._told else self._attempts + 1
            self._told, self.failure = opening, ""
            answer = self._sent = self._client.send_goal_async(self._goal(opening))
            answer.add_done_callback(partial(self._on_answer, (opening, self._attempts)))
        else:
            self.failure = f"no action server {self._parameters.gripper.action_name!r}"
            self._node.get_logger().warning(
                f"{self.failure}: gripper not moved", throttle_duration_sec=LOG_PERIOD_SEC
            )

    def cancel(self) -> None:
        """Cancels the last goal, even if the server has not answered it yet."""
        sent, self._sent, self._told = self._sent, None, None
        if sent is not None:
            sent.add_done_callback(_cancel)

    def close(self) -> None:
        """Destroys publishers and client; the gripper keeps its grip."""
        self._topic.close(0.0)
        if self._joint is not None:
            self._joint.close(0.0)
        if self._client is not None:
            self._client.destroy()
            self._client = None

    def _due(self, opening: float) -> bool:
        if opening != self._told:
            return True
        return bool(self.failure) and self._attempts < self._parameters.gripper.attempts

    def _on_answer(self, goal: tuple[float, int], answer: Future) -> None:
        handle = answer.result()
        if handle is None or not handle.accepted:
            self._failed(goal, "refused")
            return
        handle.get_result_async().add_done_callback(partial(self._on_result, goal))

    def _on_result(self, goal: tuple[float, int], answer: Future) -> None:
        response = answer.result()
        # Fingers stopped by an object have closed as far as they can.
        if response is None or getattr(response.result, "stalled", False):
            return
        if response.status == GoalStatus.STATUS_ABORTED:
            self._failed(goal, "aborted")
        elif response.status == GoalStatus.STATUS_CANCELED:
            self._failed(goal, "cancelled")

    def _failed(self, goal: tuple[float, int], how: str) -> None:
        if self._client is None or goal != (self._told, self._attempts):
            return  # another goal preempted it
        self.failures += 1
        left = self._parameters.gripper.attempts - self._attempts
        then = f"sent again, {left} left" if left else "not sent again"
        self.failure = f"goal {self._position(goal[0]):.4g} {how}"
        self._node.get_logger().warning(f"{self.failure}; {then}")

    def _position(self, opening: float) -> float:
        """Converts an opening, m, to the driver's position."""
        gripper = self._parameters.gripper
        closed, span = gripper.closed_position, gripper.goal_open - gripper.goal_closed
        travel = gripper.open_position - closed
        if span == 0.0 or travel == 0.0:
            return opening
        return gripper.goal_closed + (opening - closed) / travel * span

    def _joint_command(self, opening: float) -> JointState:
        settings = self._parameters
        names = [settings.gripper.joint] if settings.gripper.joint else []
        names = names or [name for name in settings.robot.gripper_joints[:1] if name]
        effort = settings.gripper.max_effort
        command = JointState(
            name=names,
            position=[self._position(opening)],
            effort=[effort] if effort > 0.0 else [],
        )
        command.header.stamp = self._node.get_clock().now().to_msg()
        return command

    def _goal(self, opening: float) -> Any:
        goal = self._type.Goal()
        if self._parameters.gripper.action == "gripper_command":
            goal.command.position = self._position(opening)
            goal.command.max_effort = self._parameters.gripper.max_effort
        else:
            goal.command = self._joint_command(opening)
        return goal


def _cancel(sent: Future) -> None:
    handle = sent.result()
    if handle is not None and handle.accepted:
        handle.cancel_goal_async()

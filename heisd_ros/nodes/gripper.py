"""The gripper's command: a topic always, an action of control_msgs where it is asked for."""

from __future__ import annotations

from typing import Any

from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64

from heisd_ros.nodes import optional
from heisd_ros.nodes.outlet import outlet
from heisd_ros.nodes.parameters import VlaNodeParameters

LOG_PERIOD_SEC = 5.0


class GripperOutput:
    """Float64 on `~/output/gripper`, and the goal of an action server.

    A goal is not waited for: the next one preempts it, as the drivers of these actions do. So the
    same goal is not sent again, which would start another grasp.

    Args:
        node: The node that owns topic and client.
        parameters: Which action, if any.
    """

    def __init__(self, node: Node, parameters: VlaNodeParameters) -> None:
        self._node, self._parameters = node, parameters
        self._topic = outlet(node, Float64, "~/output/gripper", parameters.dry_run)
        self._client: ActionClient | None = None
        self._told: float | None = None  # opening of the newest goal
        self._sent: Future | None = None  # the newest goal's handle, once the server has answered
        if parameters.gripper_action and not parameters.dry_run:
            self._type = optional.gripper_action(parameters.gripper_action)
            self._client = ActionClient(node, self._type, parameters.gripper_action_name)

    def send(self, opening: float) -> None:
        """Commands an opening, m."""
        self._topic.publish(Float64(data=opening))
        if self._client is None or opening == self._told:
            return
        if self._client.server_is_ready():
            self._sent, self._told = self._client.send_goal_async(self._goal(opening)), opening
        else:
            self._node.get_logger().warning(
                f"no action server {self._parameters.gripper_action_name!r}: gripper not moved",
                throttle_duration_sec=LOG_PERIOD_SEC,
            )

    def cancel(self) -> None:
        """Cancels the goal that was sent last, also one that the server has not yet answered."""
        sent, self._sent, self._told = self._sent, None, None
        if sent is not None:
            sent.add_done_callback(_cancel)

    def close(self) -> None:
        """Takes topic and client down; the gripper keeps what it holds."""
        self._topic.close(0.0)
        if self._client is not None:
            self._client.destroy()

    def _goal(self, opening: float) -> Any:
        goal, effort = self._type.Goal(), self._parameters.gripper_max_effort
        if self._parameters.gripper_action == "gripper_command":
            goal.command.position, goal.command.max_effort = opening, effort
            return goal
        goal.command = JointState(
            name=[name for name in self._parameters.robot_gripper_joints[:1] if name],
            position=[opening],
            effort=[effort] if effort > 0.0 else [],
        )
        return goal


def _cancel(sent: Future) -> None:
    handle = sent.result()
    if handle is not None and handle.accepted:
        handle.cancel_goal_async()

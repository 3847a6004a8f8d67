"""The command topics of the VLA node: they exist only while it is active."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import Float64

from heisd_ros.nodes import qos


class CommandOutputs:
    """Publishers of the twist and the gripper's opening.

    Some controllers refuse a topic with two publishers, so the publishers are destroyed as soon as
    the node is no longer active.

    Args:
        node: The node that owns them.
        frame_id: Frame of the twist.
    """

    def __init__(self, node: Node, frame_id: str) -> None:
        self._node, self._frame_id = node, frame_id
        self._twist = node.create_publisher(
            TwistStamped, "~/output/twist", qos.reliable(), qos_overriding_options=qos.overrides()
        )
        self._gripper = node.create_publisher(
            Float64, "~/output/gripper", qos.reliable(), qos_overriding_options=qos.overrides()
        )

    def send_twist(self, twist: np.ndarray, stamp: Time) -> None:
        """Publishes a twist.

        Args:
            twist: (6,), linear m/s then angular rad/s.
            stamp: Header stamp.
        """
        message = TwistStamped()
        message.header.stamp, message.header.frame_id = stamp, self._frame_id
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z = map(float, twist[:3])
        angular.x, angular.y, angular.z = map(float, twist[3:])
        self._twist.publish(message)

    def send_gripper(self, opening: float) -> None:
        """Publishes the wanted opening of the gripper, m."""
        self._gripper.publish(Float64(data=opening))

    def close(self, twist: np.ndarray, stamp: Time, timeout_sec: float = 1.0) -> bool:
        """Publishes a last twist, waits until it was received, and destroys the publishers.

        Returns:
            Whether every subscriber acknowledged it in time.
        """
        self.send_twist(twist, stamp)
        # A publisher that goes at once may take its last message with it.
        arrived = self._twist.wait_for_all_acked(Duration(nanoseconds=int(timeout_sec * 1e9)))
        self._node.destroy_publisher(self._twist)
        self._node.destroy_publisher(self._gripper)
        return bool(arrived)

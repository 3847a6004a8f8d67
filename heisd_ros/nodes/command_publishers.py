"""Publishers of commands; in a dry run none is created."""

from __future__ import annotations

from typing import Any, Protocol

from rclpy.duration import Duration
from rclpy.node import Node

from heisd_ros.nodes import qos


class CommandPublisher(Protocol):
    """Publishes the commands of one topic."""

    def publish(self, message: Any) -> None:
        """Publishes a message."""

    def close(self, timeout_sec: float) -> bool:
        """Waits until the last message was received, and destroys the publisher.

        Returns:
            Whether every subscriber acknowledged it in time.
        """


class NoPublisher:
    """Stands in for a publisher in a dry run, and publishes nothing."""

    def publish(self, message: Any) -> None:
        """Drops the message."""

    def close(self, timeout_sec: float) -> bool:
        """Returns true, since there is nothing to wait for."""
        return True


class TopicPublisher:
    """A publisher that exists only while the node is active.

    Some controllers refuse a topic with two publishers, so it is created at activation and
    destroyed at deactivation.

    Args:
        node: The node that owns it.
        kind: Message type.
        name: Name of the topic.
    """

    def __init__(self, node: Node, kind: type, name: str) -> None:
        self._node = node
        self._publisher: Any = qos.publisher(node, kind, name)

    def publish(self, message: Any) -> None:
        """Publishes a message."""
        self._publisher.publish(message)

    def close(self, timeout_sec: float) -> bool:
        """Waits for the last message, which is lost if the publisher is destroyed at once."""
        arrived = self._publisher.wait_for_all_acked(Duration(nanoseconds=int(timeout_sec * 1e9)))
        self._node.destroy_publisher(self._publisher)
        return bool(arrived)


def command_publisher(node: Node, kind: type, name: str, dry_run: bool) -> CommandPublisher:
    """Creates the publisher of a topic; in a dry run a stand-in without one."""
    return NoPublisher() if dry_run else TopicPublisher(node, kind, name)

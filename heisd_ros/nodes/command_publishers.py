"""Publishers of commands: made where commands are sent, and silent in a dry run."""

from __future__ import annotations

from typing import Any, Protocol

from rclpy.duration import Duration
from rclpy.node import Node

from heisd_ros.nodes import qos


class CommandPublisher(Protocol):
    """Where the commands of one topic go."""

    def publish(self, message: Any) -> None:
        """Sends a message."""

    def close(self, timeout_sec: float) -> bool:
        """Waits until the last message was received, and takes the topic down.

        Returns:
            Whether every subscriber acknowledged it in time.
        """


class NoPublisher:
    """Sends nothing."""

    def publish(self, message: Any) -> None:
        """Does nothing."""

    def close(self, timeout_sec: float) -> bool:
        """Has nothing to wait for."""
        return True


class TopicPublisher:
    """A topic that exists as long as this.

    Some controllers refuse a topic with two publishers, so it is made at activation and destroyed
    as soon as the node is no longer active.

    Args:
        node: The node that owns it.
        kind: Message type.
        name: Of the topic.
    """

    def __init__(self, node: Node, kind: type, name: str) -> None:
        self._node = node
        self._publisher: Any = node.create_publisher(
            kind, name, qos.reliable(), qos_overriding_options=qos.overrides()
        )

    def publish(self, message: Any) -> None:
        """Sends a message."""
        self._publisher.publish(message)

    def close(self, timeout_sec: float) -> bool:
        """Waits for the last message: a publisher that goes at once may take it along."""
        arrived = self._publisher.wait_for_all_acked(Duration(nanoseconds=int(timeout_sec * 1e9)))
        self._node.destroy_publisher(self._publisher)
        return bool(arrived)


def command_publisher(node: Node, kind: type, name: str, dry_run: bool) -> CommandPublisher:
    """The topic, or in a dry run nothing that looks like it: no publisher is made."""
    return NoPublisher() if dry_run else TopicPublisher(node, kind, name)

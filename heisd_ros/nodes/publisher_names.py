"""Names of the publishers of a topic, as far as discovery knows."""

from __future__ import annotations

from rclpy.node import Node


def publishers(node: Node, topic: str) -> list[str]:
    """Returns the full names of the nodes that publish on a topic, one per publisher, sorted.

    Args:
        node: Any node.
        topic: Name of the topic, resolved as the node's own.
    """
    heard = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    return sorted(f"{end.node_namespace.rstrip('/')}/{end.node_name}" for end in heard)

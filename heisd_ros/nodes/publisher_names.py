"""Who else is on a topic, as far as discovery knows."""

from __future__ import annotations

from rclpy.node import Node


def publishers(node: Node, topic: str) -> list[str]:
    """Full names of the nodes that publish on a topic, once for each publisher, sorted.

    Args:
        node: Any node.
        topic: Resolved as the node's own name of it.
    """
    heard = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    return sorted(f"{end.node_namespace.rstrip('/')}/{end.node_name}" for end in heard)

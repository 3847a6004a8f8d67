"""Publishers of a topic, as far as discovery knows: a reader cannot tell two of them apart."""

from __future__ import annotations

from rclpy.node import Node

from heisd_ros.control.holds import Hold, HoldReason


def publishers(node: Node, topic: str) -> list[str]:
    """Returns the full names of the nodes that publish on a topic, one per publisher, sorted.

    Args:
        node: Any node.
        topic: Name of the topic, resolved as the node's own.
    """
    heard = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    return sorted(f"{end.node_namespace.rstrip('/')}/{end.node_name}" for end in heard)


def several(node: Node, topic: str, accepted: str = "one") -> str:
    """Returns the problem of a topic with more than one publisher; empty if it has none."""
    heard = node.resolve_topic_name(topic)
    if node.count_publishers(heard) <= 1:
        return ""
    return f"{heard} is published by {', '.join(publishers(node, heard))}; accepted: {accepted}"


def other_commanders(node: Node, interface: str) -> Hold | None:
    """Returns the hold while others publish on the command topic of an active node.

    If the other is a VLA node, both hold. Commands of any other publisher are not stopped.

    Args:
        node: The active node.
        interface: Value of `command.interface`, which names the topic.
    """
    topic = node.resolve_topic_name(f"~/output/{interface}")
    if node.count_publishers(topic) <= 1:
        return None
    names = publishers(node, topic)
    own = node.get_fully_qualified_name()
    if own in names:
        names.remove(own)
    return Hold(
        HoldReason.RIVAL_COMMANDS,
        f"{topic} is also published by {', '.join(names)}; accepted: no other publisher",
    )

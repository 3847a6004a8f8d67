"""Detects other publishers of commands: a controller cannot tell two on one topic apart."""

from __future__ import annotations

from rclpy.node import Node

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.nodes.publisher_names import publishers


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

"""Checks that the node's clock runs: controllers take a stamp of 0 for an old one."""

from __future__ import annotations

from rclpy.node import Node

from heisd_ros.control.holds import Hold, HoldReason


def clock_problem(node: Node) -> Hold | None:
    """Returns the hold while the node's clock is 0, as simulation time is before its first tick.

    Args:
        node: The node whose clock stamps commands.
    """
    if node.get_clock().now().nanoseconds > 0:
        return None
    return Hold(
        HoldReason.NO_CLOCK,
        "the node's clock stands at 0: 'use_sim_time' is set and nothing came on /clock",
    )

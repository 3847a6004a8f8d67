"""Clocks of a node: whether its own runs, and timers that do not depend on it."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer

from heisd_ros.control.holds import Hold, HoldReason


def clock_problem(node: Node) -> Hold | None:
    """Returns the hold while the node's clock is 0, as simulation time is before its first tick.

    Controllers take a stamp of 0 for an old one.

    Args:
        node: The node whose clock stamps commands.
    """
    if node.get_clock().now().nanoseconds > 0:
        return None
    return Hold(
        HoldReason.NO_CLOCK,
        "the node's clock stands at 0: 'use_sim_time' is set and nothing came on /clock",
    )


def steady_timer(node: Node, period_sec: float, callback: Callable[[], object]) -> Timer:
    """Creates a timer on the steady clock, which neither steps nor stands still."""
    return node.create_timer(period_sec, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))

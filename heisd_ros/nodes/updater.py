"""Publishes on /diagnostics: by diagnostic_updater where it is installed, else by a few lines."""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from heisd_ros.nodes import optional

PERIOD_SEC = 1.0


class DiagnosticsUpdater:
    """Asks for the statuses at a fixed period and publishes them under the node's name.

    The name has its namespace before it, so that two arms can be told apart; diagnostic_updater
    does the same where its parameter `diagnostic_updater.use_fqn` says so. Its own timer is not
    used: it runs on ROS time, on which nothing happens with `use_sim_time` and no /clock.

    Args:
        node: The node.
        statuses: What to say now; names without that of the node.
    """

    def __init__(self, node: Node, statuses: Callable[[], list[DiagnosticStatus]]) -> None:
        self._node, self._statuses = node, statuses
        kind, period_sec = optional.diagnostic_updater(), PERIOD_SEC
        self._updater = None if kind is None else kind(node, PERIOD_SEC)
        if self._updater is None:
            self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        else:
            node.destroy_timer(self._updater.timer)
            period_sec = self._updater.period
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(period_sec, self._publish, clock=steady)

    def _publish(self) -> None:
        statuses = self._statuses()
        if self._updater is not None:
            self._updater.publish(statuses)
            return
        message = DiagnosticArray(status=statuses)
        message.header.stamp = self._node.get_clock().now().to_msg()
        name = self._node.get_fully_qualified_name().removeprefix("/")
        for status in statuses:
            status.name = f"{name}: {status.name}"
        self._publisher.publish(message)

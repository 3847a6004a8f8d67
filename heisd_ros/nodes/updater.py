"""Publishes on /diagnostics, through diagnostic_updater if it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from heisd_ros.nodes import optional
from heisd_ros.nodes.clock import steady_timer

PERIOD_SEC = 1.0


def status(name: str, level: bytes, message: str, values: Mapping[str, object]) -> DiagnosticStatus:
    """Builds one diagnostic status; numbers are written with four digits."""
    shown = {
        key: f"{value:.4g}" if isinstance(value, float) else str(value)
        for key, value in values.items()
    }
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id="",
        values=[KeyValue(key=key, value=value) for key, value in shown.items()],
    )


class DiagnosticsUpdater:
    """Publishes the node's statuses at a fixed period.

    Names start with the node's full name, so that two arms can be told apart; diagnostic_updater
    does that if its parameter `diagnostic_updater.use_fqn` is set. Its own timer is not used: it
    runs on ROS time, which stands still with `use_sim_time` and no /clock.

    Args:
        node: The node.
        statuses: Returns the current statuses, whose names lack the node's.
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
        steady_timer(node, period_sec, self._publish)

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

"""Publishes the status of the arm as one code on `~/status`, like MoveIt Servo's status."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from rclpy.node import Node

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.msg import ArmStatus
from heisd_ros.nodes import qos
from heisd_ros.nodes.clock import steady_timer

PERIOD_SEC = 1.0
LIMITS = {
    "singularity": (
        ArmStatus.DECELERATE_FOR_APPROACHING_SINGULARITY,
        ArmStatus.HALT_FOR_SINGULARITY,
    ),
    "collision": (ArmStatus.DECELERATE_FOR_COLLISION, ArmStatus.HALT_FOR_COLLISION),
    "joint_limit": (ArmStatus.JOINT_BOUND, ArmStatus.JOINT_BOUND),
    "workspace": (ArmStatus.WORKSPACE_BOUND, ArmStatus.WORKSPACE_BOUND),
}
"""Codes of each limit while the arm still moves and once it is stopped; the first one counts."""


def hold_status(hold: Hold, commander: str = "") -> ArmStatus:
    """Returns the status of an arm that is held, and whose it is."""
    code = ArmStatus.ESTOP if hold.reason is HoldReason.ESTOP else ArmStatus.HELD
    return ArmStatus(code=code, commander=commander, message=str(hold))


def limit_status(notes: Mapping[str, str], twist: np.ndarray, commander: str = "") -> ArmStatus:
    """Returns the status of an arm that is commanded to move.

    Args:
        notes: What limits cut from the newest command, in words, by kind of limit.
        twist: (6,), that command, m/s and rad/s.
        commander: Who commands it.
    """
    for kind, (slower, halted) in LIMITS.items():
        if kind in notes:
            code = slower if np.any(twist) else halted
            return ArmStatus(code=code, commander=commander, message=notes[kind])
    code = ArmStatus.LIMITED if notes else ArmStatus.NO_WARNING
    return ArmStatus(code=code, commander=commander, message="; ".join(notes.values()))


class StatusTopic:
    """Publishes on `~/status` once a second, and when code, commander or a hold's reason change."""

    def __init__(self, node: Node, current: Callable[[], ArmStatus]) -> None:
        self._node, self._current = node, current
        self._said: tuple[int, str, str] | None = None
        self._publisher = qos.publisher(node, ArmStatus, "~/status")
        steady_timer(node, PERIOD_SEC, self._publish)

    def update(self) -> None:
        """Publishes the status if it has changed."""
        status = self._current()
        if self._said != _news(status):
            self._publish(status)

    def _publish(self, status: ArmStatus | None = None) -> None:
        status = status or self._current()
        self._said = _news(status)
        status.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(status)


def _news(status: ArmStatus) -> tuple[int, str, str]:
    """Returns what counts as a change of status; the numbers in its text do not."""
    held = status.code in (ArmStatus.HELD, ArmStatus.INACTIVE)
    return status.code, status.commander, status.message.partition(":")[0] if held else ""

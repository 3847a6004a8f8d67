"""A timer that fires once, at a time that is set again for each."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node


class OneShot:
    """Calls a function at a steady time.

    Args:
        node: The node whose executor calls it.
        callback: What is called.
    """

    def __init__(self, node: Node, callback: Callable[[], None]) -> None:
        self._node, self._callback = node, callback
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(1.0, self._fire, clock=steady)
        self._timer.cancel()

    def set(self, at: int | None) -> None:
        """Sets the next call, in place of one that is still to come.

        Args:
            at: Steady time, ns; None: no call.
        """
        if at is None:
            self._timer.cancel()
        else:
            self._timer.timer_period_ns = max(1, at - time.monotonic_ns())
            self._timer.reset()

    def close(self) -> None:
        """Destroys the timer."""
        self._node.destroy_timer(self._timer)

    def _fire(self) -> None:
        self._timer.cancel()
        self._callback()

"""The guard's own stop: it takes over from the last command that was passed, within the limits."""

from __future__ import annotations

import numpy as np

from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.kinematics.pose import Pose
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.safety_limits import safety_limits
from heisd_ros.safety.limits import SafetyFilter

_STANDS_TICKS = 2
"""A target that did not come for more ticks than this stands still, and is not moved again; a twist
is in force until the controller's timeout."""


class Halt:
    """Follows the commands that are passed, and stops the arm from there once it is begun.

    Args:
        settings: Limits, interface and the controller's timeout.
        tick_sec: Time from one command to the next, s.

    Attributes:
        active: Whether the guard commands the arm itself.
        target: The guard's own target, where targets are sent.
    """

    def __init__(self, settings: VlaNodeParameters, tick_sec: float) -> None:
        self.active = False
        self.target: Pose | None = None
        timeout = settings.command.controller_timeout_sec
        self._filter = SafetyFilter(safety_limits(settings), tick_sec, tick_sec, timeout)
        twists = settings.command.interface == "twist"
        self._standing_ns = (timeout if twists else _STANDS_TICKS * tick_sec) * NANOSECONDS
        self._sent = 0  # steady time of the newest command on the way to the arm, ns

    @property
    def at_rest(self) -> bool:
        """Whether the newest command on the way to the arm stands still."""
        return self._filter.at_rest

    def path(self, twist: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """Returns the displacements (n, 6), m and rad, of a stop from a twist.

        Args:
            twist: (6,), m/s and rad/s in the base frame.
            rate: (6,), its acceleration, m/s^2 and rad/s^2.
        """
        return self._filter.stop_from(twist, rate)

    def follow(self, twist: np.ndarray, rate: np.ndarray) -> None:
        """Records a command that is passed, as in `path`."""
        self._filter.follow(twist, rate)

    def begin(self, target: Pose | None, sent: int, now: int) -> None:
        """Takes over.

        Args:
            target: The last one passed, where targets are sent.
            sent: When the last command was passed, steady ns.
            now: Steady time, ns.
        """
        if now - sent > self._standing_ns:
            self._filter.rest()
        self.active, self.target, self._sent = True, target, sent

    def advance(self, now: int) -> np.ndarray:
        """Computes the next command of the stop.

        Args:
            now: Steady time, ns.

        Returns:
            (6,), m/s and rad/s in the base frame; `target` moves with it.
        """
        limited = self._filter.halt((now - self._sent) / NANOSECONDS)
        self._sent = now
        if self.target is not None:
            self.target = self.target.moved(limited.motion)
        return limited.twist

"""A grid of control periods that follows events that are about on time. Imports no ROS."""

from __future__ import annotations

import math

LEEWAY = 0.1
"""Share of a period by which an event may be early and still count as on time: stamps jitter."""


class ControlGrid:
    """Tells whether an event comes before its control period."""

    def __init__(self, rate_hz: float) -> None:
        self.period = 1.0 / rate_hz
        self.reset()

    def reset(self) -> None:
        """Restarts the grid: the next event is on time."""
        self._due = -math.inf

    @property
    def opens(self) -> float:
        """Time from which the next event is on time, s; -inf before the first."""
        return self._due - LEEWAY * self.period

    def early(self, at: float) -> bool:
        """Whether a time, s, is too early; one long before means that the clock was set."""
        return at < self.opens and at - self._due > -2.0 * self.period

    def advance(self, at: float) -> None:
        """Takes a time, s, as the event of this period; the grid restarts after a gap."""
        on_grid = abs(at - self._due) <= self.period
        self._due = (self._due if on_grid else at) + self.period

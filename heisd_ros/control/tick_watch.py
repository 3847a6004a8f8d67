"""Counts late ticks of the command timer, and warns if there are too many."""

from __future__ import annotations

from collections import deque

from heisd_ros.control.inputs import NANOSECONDS

RECENT = 200
"""Number of newest ticks over which the late share is computed."""


class TickWatch:
    """Counts late ticks; `now` is steady time, ns.

    Args:
        tick_sec: Time from one tick to the next, s.
        late_share: Delay, as a share of it, from which a tick counts as late.
        limit: Share of the newest ticks that may be late.

    Attributes:
        late: Late ticks so far.
        worst_sec: The largest delay of a tick, s.
    """

    def __init__(self, tick_sec: float, late_share: float, limit: float) -> None:
        self._tick, self._late_share, self._limit = tick_sec, late_share, limit
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._last: int | None = None
        self.late, self.worst_sec = 0, 0.0

    def note(self, now: int) -> None:
        """Records a tick; the next one is due a period later."""
        last, self._last = self._last, now
        if last is None:
            return
        over = (now - last) / NANOSECONDS - self._tick
        late = over > self._late_share * self._tick
        self._recent.append(late)
        self.late += late
        self.worst_sec = max(self.worst_sec, over)

    def warning(self) -> str:
        """Returns a warning; empty while few of the newest ticks are late."""
        late = sum(self._recent)
        if late <= self._limit * RECENT:
            return ""
        return (
            f"{late} of the last {len(self._recent)} commands came more than "
            f"{self._late_share * self._tick * 1e3:.0f} ms late, the worst "
            f"{self.worst_sec * 1e3:.0f} ms: this machine is too busy"
        )

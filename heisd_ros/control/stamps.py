"""Compares header stamps with the node's clock: how old they are, and why. Imports no ROS."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from heisd_ros.control.inputs import NANOSECONDS

MEMORY_SEC = 3.0
"""Time for which the ages of a source are kept, s, to see whether they vary."""
STEADY_SHARE, STEADY_SEC = 0.1, 0.05
"""Ages that vary by less than this share and this time (s) have one constant cause."""
UPTIME_SEC = 10.0 * 365 * 86400
"""A stamp below this, s, counts from boot, if the clock itself is above it."""


class StampAges:
    """Ages of header stamps at the arrival of their messages, by source."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._ages: dict[str, deque[tuple[int, float]]] = {
            name: deque(maxlen=256) for name in self._names
        }

    def note(self, name: str, stamp: int, clock: int) -> None:
        """Records a stamp and the time, ns, on the node's clock at which its message arrived."""
        ages = self._ages[name]
        if ages and not 0 <= clock - ages[-1][0] <= MEMORY_SEC * NANOSECONDS:
            ages.clear()  # a pause, or a clock that was set
        while ages and clock - ages[0][0] > MEMORY_SEC * NANOSECONDS:
            ages.popleft()
        ages.append((clock, (clock - stamp) / NANOSECONDS))

    def newest(self, name: str) -> float | None:
        """Returns the age, s, of a source's newest message at arrival; None before the first."""
        ages = self._ages[name]
        return ages[-1][1] if ages else None

    def complaint(
        self, name: str, limit: float, parameter: str = "input.max_stamp_age_sec"
    ) -> str | None:
        """Returns the problem of a source's newest stamp and its likely cause; None if it is good.

        Args:
            name: The source.
            limit: How far a stamp may differ from the clock, s.
            parameter: Name of the parameter that sets it.
        """
        age = self.newest(name)
        if age is None or abs(age) <= limit:
            return None
        clock = self._ages[name][-1][0] / NANOSECONDS
        if clock == age:
            return "messages are not stamped (0); accepted: the time at which it was measured"
        place = "behind" if age > 0.0 else "ahead of"
        shown = ", ".join(
            f"{each} {newest:.2f} s"
            for each in self._names
            if (newest := self.newest(each)) is not None
        )
        return (
            f"stamp is {abs(age):.2f} s {place} the node's clock; accepted: up to {limit:g} s "
            f"({parameter}). {self._cause(name, clock, limit)}. "
            f"Ages at arrival: {shown}"
        )

    def _cause(self, name: str, clock: float, limit: float) -> str:
        ages = [age for _, age in self._ages[name]]
        least, most, newest = min(ages), max(ages), ages[-1]
        offset = "the clock that stamps it is not synchronised with the node's"
        if 0.0 <= clock - newest < UPTIME_SEC < clock:
            return f"It looks like time since a start: {offset}"
        if newest < 0.0:
            return f"A stamp of the future: {offset}"
        if most - least > max(STEADY_SHARE * newest, STEADY_SEC):
            return f"Ages vary from {least:.2f} to {most:.2f} s: the pipeline to the node is slow"
        others = [self.newest(each) for each in self._names if each != name]
        if any(other is not None and abs(other) <= limit for other in others):
            return f"The age is constant and others have none: {offset}"
        return (
            "All are about as old, constantly: the pipeline to the node is slow, or the node's "
            "clock is not synchronised with theirs"
        )

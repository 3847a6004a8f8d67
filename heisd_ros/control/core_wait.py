"""How long the threads of this process wait for a core: what other work costs the steps.

Linux counts, for each thread, the time that it was ready to run and no core was free (schedstat,
second number). A wall clock alone cannot tell that from a slow model, and neither can the time on
the processor: threads that wait for one another spin, and spinning counts as work.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from heisd_ros.control.inputs import NANOSECONDS

TASKS = Path("/proc/self/task")
WINDOW_SEC = 10.0
"""Time over which waiting is averaged, s."""
SHARE = 0.25
"""Seconds of waiting a second, all threads together, from which it is warned of."""


def waited_ns(tasks: Path = TASKS) -> dict[str, int]:
    """Time that each thread has waited so far, ns; empty where the kernel does not count it."""
    found = {}
    for task in tasks.iterdir() if tasks.is_dir() else ():
        try:
            found[task.name] = int((task / "schedstat").read_text(encoding="utf-8").split()[1])
        except (OSError, IndexError, ValueError):
            continue  # the thread has just ended, or nothing is counted
    return found


class CoreWait:
    """Averages the waiting over the newest seconds. Knows no ROS.

    Args:
        read: Reads what each thread has waited so far, ns.
    """

    def __init__(self, read: Callable[[], Mapping[str, int]] = waited_ns) -> None:
        self._read = read
        self._before = read()
        self._total = 0
        self._notes: deque[tuple[int, int]] = deque([(time.monotonic_ns(), 0)])

    def note(self, now: int) -> None:
        """Reads the counters; to be called about once a second.

        Args:
            now: Steady time, ns.
        """
        waited = self._read()
        # Thread by thread: one that has ended takes its count along.
        self._total += sum(max(0, ns - self._before.get(name, 0)) for name, ns in waited.items())
        self._before = waited
        self._notes.append((now, self._total))
        while len(self._notes) > 2 and now - self._notes[0][0] > WINDOW_SEC * NANOSECONDS:
            self._notes.popleft()

    @property
    def share(self) -> float:
        """Seconds of waiting a second, all threads together."""
        (began, before), (ended, after) = self._notes[0], self._notes[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def warning(self, threads: int) -> str:
        """What to warn of; empty while the threads get their cores.

        Args:
            threads: Of the model.
        """
        if self.share < SHARE:
            return ""
        advice = ", or set model.threads to 1" if threads > 1 else ""
        return (
            f"this node's threads waited for a core {self.share:.2f} s a second: other work on "
            f"this machine slows the steps; leave it more cores{advice}"
        )

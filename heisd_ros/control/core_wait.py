"""Measures how long the threads of this process wait for a core because of other work.

For each thread Linux counts the time for which it was runnable but no core was free (schedstat,
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
"""Time over which the waiting is averaged, s."""
SHARE = 0.25
"""Seconds of waiting per second, summed over threads, above which there is a warning."""


def waited_ns(tasks: Path = TASKS) -> dict[str, int]:
    """Returns how long each thread has waited so far, ns; empty if the kernel does not count it."""
    found = {}
    for task in tasks.iterdir() if tasks.is_dir() else ():
        try:
            found[task.name] = int((task / "schedstat").read_text(encoding="utf-8").split()[1])
        except (OSError, IndexError, ValueError):
            continue  # the thread has just ended, or nothing is counted
    return found


class CoreWait:
    """Averages the waiting over the last seconds; `now` is steady time, ns.

    Args:
        read: Returns how long each thread has waited so far, ns.
    """

    def __init__(self, read: Callable[[], Mapping[str, int]] = waited_ns) -> None:
        self._read = read
        self._before = read()
        self._total = 0
        self._notes: deque[tuple[int, int]] = deque([(time.monotonic_ns(), 0)])

    def note(self, now: int) -> None:
        """Reads the counters; call it about once a second."""
        waited = self._read()
        # Thread by thread: the count of a thread that has ended is gone.
        self._total += sum(max(0, ns - self._before.get(name, 0)) for name, ns in waited.items())
        self._before = waited
        self._notes.append((now, self._total))
        while len(self._notes) > 2 and now - self._notes[0][0] > WINDOW_SEC * NANOSECONDS:
            self._notes.popleft()

    @property
    def share(self) -> float:
        """Seconds of waiting per second, summed over all threads."""
        (began, before), (ended, after) = self._notes[0], self._notes[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def warning(self, threads: int) -> str:
        """Returns a warning; empty while the threads get their cores.

        Args:
            threads: Number of threads of the model.
        """
        if self.share < SHARE:
            return ""
        advice = ", or set model.threads to 1" if threads > 1 else ""
        return (
            f"this node's threads waited for a core {self.share:.2f} s a second: other work on "
            f"this machine slows the steps; leave it more cores{advice}"
        )

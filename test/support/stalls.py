"""How long a process had to wait for a CPU: what a busy machine adds to every measured time."""

from __future__ import annotations

import os
import time

NANOSECONDS, TICKS_A_SECOND = 1e9, os.sysconf("SC_CLK_TCK")
MOST_STALLS_SEC = 5.0
"""Waiting for a CPU that is forgiven."""


class Stalls:
    """Keeps, over time, how long the threads of a process were ready to run and did not.

    Linux counts it for each thread (schedstat, second number), and for the machine as a whole what
    its host took from it (stat, steal). On a machine with a free CPU it is nearly nothing, so a
    time from which it is taken still says what the process did.

    Args:
        pid: The process.
    """

    def __init__(self, pid="self"):
        self._tasks = f"/proc/{pid}/task"
        self._notes = []
        self.note()

    def note(self):
        """Reads the counters now; to be called often."""
        total = 0.0
        try:
            for task in os.listdir(self._tasks):  # fast: this is called fifty times a second
                file = os.open(f"{self._tasks}/{task}/schedstat", os.O_RDONLY)
                try:
                    total += int(os.read(file, 100).split()[1]) / NANOSECONDS
                finally:
                    os.close(file)
            with open("/proc/stat", encoding="ascii") as file:
                total += int(file.readline().split()[8]) / TICKS_A_SECOND
        except (OSError, IndexError):
            return  # a thread, or the process, has just ended
        self._notes.append((time.monotonic(), total))

    def within(self, since, until):
        """Seconds of waiting between two steady times, all threads together."""
        before = [total for at, total in self._notes if at <= since] or [self._notes[0][1]]
        after = [total for at, total in self._notes if at <= until] or before
        later = [total for at, total in self._notes if at > until][:1]
        # What is known of the end is the first note after it.
        return max((later or after)[-1] - before[-1], 0.0)

    def without(self, since, until):
        """Seconds between two steady times in which the process could run."""
        self.note()
        return until - since - min(self.within(since, until), MOST_STALLS_SEC)

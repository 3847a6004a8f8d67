"""Waiting for a core: counted thread by thread, averaged, and warned of."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from heisd_ros.control.core_wait import WINDOW_SEC, CoreWait, waited_ns

SECOND = 10**9


def watch(*counts):
    """A watch that reads these counts in turn, once a second from now on."""
    reads = iter(counts)
    found = CoreWait(lambda: next(reads))
    start = time.monotonic_ns()
    for number in range(1, len(counts)):
        found.note(start + number * SECOND)
    return found


def test_waiting_of_all_threads_is_averaged_over_the_time():
    found = watch({"1": 5 * SECOND, "2": 0}, {"1": 5 * SECOND, "2": SECOND}, {"1": 6 * SECOND})
    assert found.share == pytest.approx(1.0, rel=0.01)
    assert "1.00 s a second" in found.warning(1) and "model.threads" not in found.warning(1)
    assert "set model.threads to 1" in found.warning(2)


def test_threads_that_come_and_go_are_no_negative_waiting():
    found = watch({"1": 9 * SECOND}, {"2": SECOND // 10}, {"2": SECOND // 10, "3": 0})
    assert found.share == pytest.approx(0.05, rel=0.01) and found.warning(2) == ""


def test_old_waiting_is_forgotten():
    counts = [{"1": 0}, {"1": 8 * SECOND}, *[{"1": 8 * SECOND}] * (int(WINDOW_SEC) + 3)]
    assert watch(*counts).share == 0.0


def test_a_kernel_that_counts_nothing_is_no_warning(tmp_path):
    assert waited_ns(tmp_path / "none") == {}
    assert watch({}, {}).warning(2) == ""


@pytest.mark.skipif(not waited_ns(), reason="the kernel does not count waiting")
def test_a_neighbour_on_the_same_core_is_noticed():
    """Two that are always busy share one core: each waits for about half of the time."""
    cores = os.sched_getaffinity(0)
    core = min(cores)
    # It ends by itself: a scheduler that lets it starve this process must not hold up the tests.
    loop = "import time\nend = time.monotonic() + 4.0\nwhile time.monotonic() < end: pass"
    busy = subprocess.Popen([sys.executable, "-c", loop])
    try:
        os.sched_setaffinity(0, {core})
        os.sched_setaffinity(busy.pid, {core})
        time.sleep(0.1)  # until the other one runs
        found = CoreWait()
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            pass
        found.note(time.monotonic_ns())
    finally:
        os.sched_setaffinity(0, cores)
        busy.kill()
        busy.wait()
    assert found.share > 0.25 and found.warning(2)

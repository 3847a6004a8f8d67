"""Jobs share the cores, and end with the process that wanted them, however that ended."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from heisd_ros.cli.workers import cores, run_jobs, threads_each

JOBS = """
import time
from heisd_ros.cli.workers import run_jobs
if __name__ == "__main__":
    list(run_jobs(time.sleep, [(60.0,)], "asleep", workers=1))
"""
ROUNDS = """
import time
from heisd_ros.cli.demos import record_rounds
def collect(task, episodes, note):
    time.sleep(60.0)
if __name__ == "__main__":
    record_rounds(collect, [0], [1], "asleep", workers=1)
"""
PATIENCE_SEC = 30.0


def workers_of(pid):
    """Processes that run the jobs of another."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in children if b"spawn_main" in read(child, "cmdline")]


def read(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def runs(pid):
    """Whether a process is there and not only waiting to be forgotten."""
    status = read(pid, "stat").rpartition(b")")[2].split()
    return bool(status) and status[0] != b"Z"


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_SEC
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("workers", [1, 2, 1 + cores()])
def test_processes_share_the_cores(workers, monkeypatch):
    for variable in ("OMP_NUM_THREADS", "LP_NUM_THREADS"):
        monkeypatch.setenv(variable, "7")
    (threads,) = run_jobs(torch.get_num_threads, [()], "threads", workers)
    assert threads == threads_each(workers)
    assert workers * threads <= max(workers, cores())


def test_a_worker_takes_no_more_threads_than_asked_for(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LP_NUM_THREADS", "7")
    assert list(run_jobs(torch.get_num_threads, [()], "threads", 1)) == [1]


@pytest.mark.parametrize("run", [JOBS, ROUNDS])
def test_no_worker_outlives_a_process_that_was_killed(run, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(run)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: workers_of(process.pid))
            (worker,) = workers_of(process.pid)
            assert runs(worker)
        finally:
            process.kill()
    wait_until(lambda: not runs(worker))

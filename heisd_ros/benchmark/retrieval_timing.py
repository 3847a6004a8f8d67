"""Measures time, memory and disk use for the retrieval bench."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Timed:
    """Duration of a block.

    Attributes:
        wall_s: wall time.
        cpu_s: CPU time of all threads of the process.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def timed() -> Iterator[Timed]:
    """Times a block; the result is complete when it ends."""
    result = Timed()
    wall, cpu = time.perf_counter(), time.process_time()
    yield result
    result.wall_s = time.perf_counter() - wall
    result.cpu_s = time.process_time() - cpu


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Returns p50 and p99 of some times, ms."""
    p50, p99 = np.percentile(np.array(seconds) * 1e3, (50, 99))
    return {"p50": float(p50), "p99": float(p99)}


def query_times(times: Sequence[Timed]) -> dict[str, dict[str, float]]:
    """Returns percentiles of some queries, in wall time and CPU time."""
    return {
        "query_ms": percentiles([each.wall_s for each in times]),
        "query_cpu_ms": percentiles([each.cpu_s for each in times]),
    }


def resident_mib() -> dict[str, float]:
    """Returns the resident memory of this process (proc(5)), MiB.

    Returns:
        ``total``; ``own``, which only this process has; and ``mapped``, pages of files, which the
        kernel takes back when memory is short.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kib = dict(re.findall(r"^(VmRSS|RssAnon|RssFile):\s+(\d+) kB", status, re.MULTILINE))
    names = {"total": "VmRSS", "own": "RssAnon", "mapped": "RssFile"}
    return {name: int(kib[key]) / 1024 for name, key in names.items()}


def folder_mib(folder: Path) -> float:
    """Returns the size of all files of a folder, MiB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20

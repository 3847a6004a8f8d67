"""Describes the machine that a benchmark ran on."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path

import torch


def processor() -> str:
    """Returns the processor's name (proc(5), cpuinfo) and the number of usable cores."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} ({platform.machine()}), {len(os.sched_getaffinity(0))} cores"


def busy() -> str:
    """Returns the load of the machine."""
    return f"load of the last minute {os.getloadavg()[0]:.1f}"


def peak_memory_gib(device: torch.device) -> float:
    """Returns the peak memory: allocated on a GPU (since a reset), or resident of this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)  # KiB on Linux

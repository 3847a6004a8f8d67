"""The machine that a benchmark ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def processor() -> str:
    """Its processor's name (proc(5), cpuinfo), and how many cores may be used."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} ({platform.machine()}), {len(os.sched_getaffinity(0))} cores"


def busy() -> str:
    """How much else it has to do."""
    return f"load of the last minute {os.getloadavg()[0]:.1f}"


def peak_memory_gib(device: torch.device) -> float | None:
    """The most that has been allocated on a GPU since its statistics were reset; else None."""
    if device.type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2)

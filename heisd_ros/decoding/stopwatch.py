"""Times the parts of a step, honestly on a GPU too."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Laps in milliseconds; each waits for the device, so that work is charged where it arose."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = self._last = self._now()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End the lap that has been running and charge it to `name`."""
        now = self._now()
        self._laps[name] = self._laps.get(name, 0.0) + 1e3 * (now - self._last)
        self._last = now

    def timings_ms(self) -> dict[str, float]:
        """Every lap by name, and ``total`` from the start to the end of the last lap."""
        return {**self._laps, "total": 1e3 * (self._last - self._start)}

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

"""Times the parts of a step, correctly on a GPU too."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Measures laps in milliseconds; on a GPU a lap ends when the work queued so far is done.

    So work is charged to the lap that queued it, and nothing waits for the device before
    `timings_ms`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks = [self._mark()]
        self._names: list[str] = []

    def lap(self, name: str) -> None:
        """Ends the running lap and charges it to `name`."""
        self._marks.append(self._mark())
        self._names.append(name)

    def timings_ms(self) -> dict[str, float]:
        """Returns every lap by name, and ``total`` from the start to the end of the last lap."""
        laps: dict[str, float] = {}
        for name, start, end in zip(self._names, self._marks, self._marks[1:], strict=False):
            laps[name] = laps.get(name, 0.0) + self._between(start, end)
        return {**laps, "total": self._between(self._marks[0], self._marks[-1])}

    def _mark(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    @staticmethod
    def _between(start: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
        if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
            end.synchronize()
            return float(start.elapsed_time(end))
        assert isinstance(start, float) and isinstance(end, float), "all marks are of one kind"
        return 1e3 * (end - start)

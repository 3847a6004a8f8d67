"""Measures cases in turns, so that a slow phase of the machine affects all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from heisd_ros.benchmark.roofline import Clock, synchronize

WARM_UPS = 2


@dataclass(frozen=True)
class Case:
    """One thing that is timed.

    Attributes:
        name: for a reader.
        run: runs it once, with inputs already on the device.
        roofline_ms: the least that the device could need; None if undefined.
        accepted: number of accepted draft tokens, if forced.
        step: whether it is a whole step, to be compared with the eager loop.
    """

    name: str
    run: Callable[[], object]
    roofline_ms: float | None = None
    accepted: int | None = None
    step: bool = True


def measure(
    cases: Sequence[Case],
    device: torch.device,
    rounds: int,
    clock: Clock = time.perf_counter,
) -> dict[str, NDArray[np.float64]]:
    """Returns the times of each case by name, ms, one per round, in random order each round."""
    for case in cases:
        for _ in range(WARM_UPS):
            case.run()
    times: dict[str, list[float]] = {case.name: [] for case in cases}
    order, rng = list(cases), random.Random(0)
    for _ in range(rounds):
        rng.shuffle(order)
        for case in order:
            synchronize(device)
            start = clock()
            case.run()
            synchronize(device)
            times[case.name].append(1e3 * (clock() - start))
    return {name: np.array(values) for name, values in times.items()}


def ratio(of: NDArray[np.float64], to: NDArray[np.float64]) -> float:
    """Returns the ratio of the times of two cases: the median over rounds."""
    return float(np.median(of / to))

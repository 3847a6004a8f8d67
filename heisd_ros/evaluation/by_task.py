"""Compares two modes task by task: a mean over tasks can hide a failing one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from heisd_ros.evaluation.accounting import Row
from heisd_ros.evaluation.compare import pairs_of
from heisd_ros.evaluation.statistics import Estimate

RESAMPLES = 2000


class TaskOutcome(NamedTuple):
    """Paired outcomes of one task.

    Attributes:
        task: Task of the suite; None: all tasks.
        pairs: Initial states that both modes ran.
        successes: Successes of the mode.
        base_successes: Successes of the base mode.
        won: States that the mode alone solved.
        lost: States that the base alone solved.
        difference: Mean of (won - lost) a state, with the 95% interval of resampled states.
        p_value: One-sided probability of at least so many lost if both were equally good.
    """

    task: int | None
    pairs: int
    successes: int
    base_successes: int
    won: int
    lost: int
    difference: Estimate
    p_value: float

    @property
    def collapsed(self) -> bool:
        """Whether at least half of the task is lost, net, significantly."""
        return self.difference.value <= -0.5 and self.p_value < 0.05


def by_task(rows: Sequence[Row], mode: str, base: str, seed: int = 0) -> list[TaskOutcome]:
    """Returns the outcomes of each task, and last of all tasks, resampled within tasks.

    Args:
        rows: Episodes of one run.
        mode: The mode.
        base: The mode it is compared with.
        seed: Seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    found: dict[int, list[tuple[bool, bool]]] = {}
    for ours, theirs in pairs_of(rows, mode, base):
        found.setdefault(ours["task_index"], []).append((ours["success"], theirs["success"]))
    outcomes, sums, every = [], np.zeros(RESAMPLES), []
    for task, pairs in sorted(found.items()):
        gains = np.array([int(ours) - int(theirs) for ours, theirs in pairs])
        drawn = rng.choice(gains, size=(RESAMPLES, len(gains))).sum(axis=1)
        outcomes.append(_outcome(task, pairs, drawn / len(pairs)))
        sums += drawn
        every += pairs
    return [*outcomes, _outcome(None, every, sums / len(every))] if every else []


def _outcome(
    task: int | None, pairs: Sequence[tuple[bool, bool]], drawn: np.ndarray
) -> TaskOutcome:
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return TaskOutcome(
        task=task,
        pairs=len(pairs),
        successes=sum(ours for ours, _ in pairs),
        base_successes=sum(theirs for _, theirs in pairs),
        won=won,
        lost=lost,
        difference=Estimate((won - lost) / len(pairs), float(low), float(high)),
        p_value=(
            float(binomtest(lost, won + lost, alternative="greater").pvalue) if won + lost else 1.0
        ),
    )

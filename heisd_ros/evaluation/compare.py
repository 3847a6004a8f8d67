"""Compares two modes on the same episodes: speed, success, and equality of the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heisd_ros.evaluation.accounting import Row, answered, compute_seconds, start_of
from heisd_ros.evaluation.statistics import (
    Clusters,
    Estimate,
    mcnemar,
    paired_difference,
    paired_ratios,
)


def pairs_of(rows: Sequence[Row], mode: str, base: str) -> list[tuple[Row, Row]]:
    """Returns the episodes of two modes from the same start, (mode, base), ordered by start."""
    found = {
        name: {start_of(row): row for row in rows if row["mode"] == name} for name in (mode, base)
    }
    return [
        (found[mode][key], found[base][key]) for key in sorted(found[mode].keys() & found[base])
    ]


def compare(rows: Sequence[Row], mode: str, base: str, seed: int = 0) -> dict[str, Any] | None:
    """Compares a mode with a base mode.

    Args:
        rows: Episodes of one run.
        mode: The mode.
        base: The mode it is compared with.
        seed: Seed of the bootstrap.

    Returns:
        base; pairs, the episodes that both have; speedup_median and speedup_mean of the reaction
        latency over all answers, and speedup_compute, of means that include what is done while the
        arm moves, each {value, low, high} with the 95% interval of a bootstrap over pairs;
        speedup_episode, the same of the mean time of whole episodes, which also counts that a mode
        may take more steps;
        success_difference, the same by Newcombe's interval; only_mode and only_base, the pairs in
        which that one alone succeeded; p_value of McNemar's exact test; identical, the pairs whose
        tokens are equal step by step. None without pairs.
    """
    pairs = pairs_of(rows, mode, base)
    if not pairs:
        return None
    latency = paired_ratios(_times([b for _, b in pairs]), _times([m for m, _ in pairs]), seed)
    compute = paired_ratios(
        _times([b for _, b in pairs], settled=True),
        _times([m for m, _ in pairs], settled=True),
        seed,
    )
    whole = paired_ratios(_totals([b for _, b in pairs]), _totals([m for m, _ in pairs]), seed)
    outcomes = [(m["success"], b["success"]) for m, b in pairs]
    both, neither = outcomes.count((True, True)), outcomes.count((False, False))
    only_mode, only_base = outcomes.count((True, False)), outcomes.count((False, True))
    return {
        "base": base,
        "pairs": len(pairs),
        "speedup_median": _json(latency.median),
        "speedup_mean": _json(latency.mean),
        "speedup_compute": _json(compute.mean),
        "speedup_episode": _json(whole.mean),
        "success_difference": _json(paired_difference(both, only_mode, only_base, neither)),
        "only_mode": only_mode,
        "only_base": only_base,
        "p_value": round(mcnemar(only_mode, only_base), 4),
        "identical": sum(m["tokens"] == b["tokens"] for m, b in pairs),
    }


def _times(rows: Sequence[Row], settled: bool = False) -> Clusters:
    """Returns the times of each episode's answers, optionally with deferred verification."""
    clusters = [np.array(row["ms"], np.float64) for row in rows]
    for row, times in zip(rows, clusters, strict=True):
        for step, ms, _ in row["settled"] if settled else ():
            times[step] += ms
    return Clusters([times[answered(row)] for row, times in zip(rows, clusters, strict=True)])


def _totals(rows: Sequence[Row]) -> Clusters:
    """Returns the total time of each episode."""
    return Clusters([np.array([compute_seconds(row)]) for row in rows])


def _json(estimate: Estimate) -> dict[str, float]:
    return {name: round(value, 4) for name, value in estimate._asdict().items()}

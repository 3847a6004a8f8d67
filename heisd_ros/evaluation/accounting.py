"""Costs and motion of an episode, and the summary of a mode's episodes.

An episode is a row: a plain dict that goes into the results file as it is. Its steps are columns,
lists of one entry per step, rounded, so that a thousand episodes take a few megabytes.

A step's time is its reaction latency, from images to action. It holds everything that the step
waits for: preprocessing, vision, retrieval, every pass, de-tokenising, and the kinematic metric
where the mode uses it. What a decoder does while the arm moves is kept apart (`settled`) and
charged to the compute of the step.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.decoding.types import Source, deciding
from heisd_ros.evaluation.joint_limits import limit_events
from heisd_ros.evaluation.rollout import EpisodeResult, StepRecord
from heisd_ros.evaluation.statistics import wilson_interval
from heisd_ros.sim.scene import CONTROL_RATE_HZ

Row = dict[str, Any]
_LONG_ANSWERS = (Source.TAGS, Source.KEPT)
"""Sources of models that reason: left out of the summaries of all others."""


def start_of(row: Row) -> tuple[int, int, int]:
    """Returns task, initial state and variation (0 if missing), by which episodes are paired."""
    return row["task_index"], row["init_state"], row.get("variation", 0)


def answered(row: Row) -> NDArray[np.bool_]:
    """Returns (T,) which steps had an answer of their own: a later action of a chunk has none."""
    if "answers" in row:
        return np.isin(np.arange(row["steps"]), row["answers"])
    # Of a version that did not list them: such an action takes no time without a metric.
    return (np.array(row["passes"]) > 0) | (np.array(row["ms"]) > 0.0)


def episode_row(mode: str, result: EpisodeResult, variation: int = 0) -> Row:
    """Converts an episode to a row of the results file.

    Args:
        mode: The mode that ran it.
        result: Result of the episode.
        variation: Variation of its start, see `starts.Start`.

    Returns:
        mode, suite, task_index, init_state, variation, success, steps; a column each of source (one
        string, a `Source.letter` a step), ms, passes, accepted, metric (F), similarity (None where
        a step has none) and tip_mm ([x, y, z], base frame); chance, where a predictor chose, what
        it said of each step (`StepResult.chance`); answers, where answers are chunks, the steps
        that had one of their own; settled, [step, ms, agrees] of each
        skip that was verified while the arm moved; gripper_steps, the steps at which the gripper
        command changed; jerk, m/s^3; limit_events; parts_ms, the sum of each part of the timings;
        reasons, the steps of each; tokens, a digest
        that two episodes share exactly if their tokens are equal, step by step.
    """
    records = result.records
    columns = step_columns(records, [record.result.action[-1] > 0.0 for record in records])
    return {
        "mode": mode,
        "suite": result.suite,
        "task_index": result.task_index,
        "init_state": result.init_state,
        "variation": variation,
        "success": bool(result.success),
        **columns,
        "jerk": round(mean_jerk(np.array([record.tip for record in records])), 4),
        "limit_events": limit_events(np.array([record.joints for record in records])),
        "tokens": _digest([record.result.tokens for record in records]),
    }


def _digest(answers: Sequence[Sequence[int]]) -> str:
    digest = hashlib.sha256(np.array([t for tokens in answers for t in tokens], np.int64).tobytes())
    lengths = [len(tokens) for tokens in answers]
    if len(set(lengths)) > 1:
        digest.update(np.array(lengths, np.int64).tobytes())
    return digest.hexdigest()[:16]


def step_columns(records: Sequence[StepRecord], grips: Sequence[bool]) -> Row:
    """Returns the columns of a row: what is known of each step.

    Args:
        records: The steps.
        grips: The gripper command of each, whichever of the two is called true.

    Returns:
        steps to reasons, as `episode_row` lists them.
    """
    steps = [record.result for record in records]
    motions = [record.motion for record in records]
    settled = [record.settled for record in records]
    parts = _total(
        {**record.result.timings_ms, **({"metric": record.metric_ms} if record.motion else {})}
        for record in records
    )
    answers = [i for i, step in enumerate(steps) if step.timings_ms.get("total") != 0.0]
    chances = [None if step.chance is None else round(step.chance, 3) for step in steps]
    return {
        "steps": len(records),
        "source": "".join(Source(step.source).letter for step in steps),
        "ms": [round(record.ms, 2) for record in records],
        "settled": [[i, round(s.ms, 2), s.agrees] for i, s in enumerate(settled) if s is not None],
        "passes": [step.passes for step in steps],
        "accepted": [step.accepted for step in steps],
        "metric": [None if m is None or not m.ready else round(m.value, 3) for m in motions],
        "similarity": [None if s.similarity is None else round(s.similarity, 3) for s in steps],
        **({"chance": chances} if any(chance is not None for chance in chances) else {}),
        **({"answers": answers} if len(answers) < len(steps) else {}),
        "tip_mm": [[round(1e3 * float(x)) for x in record.tip] for record in records],
        "gripper_steps": [i for i in range(1, len(grips)) if grips[i] != grips[i - 1]],
        "parts_ms": {name: round(ms, 3) for name, ms in parts.items() if name != "total"},
        "reasons": dict(Counter(kind_of(step.reason) for step in steps).most_common()),
    }


def mean_jerk(tips: NDArray[np.float64]) -> float:
    """Returns the mean length of the tip's jerk, m/s^3: third differences at the control rate.

    Args:
        tips: (T, 3) positions of consecutive control steps, m. Fewer than four have none: 0.
    """
    if len(tips) < 4:
        return 0.0
    jerk = np.diff(tips, 3, axis=0) * CONTROL_RATE_HZ**3
    return float(np.linalg.norm(jerk, axis=1).mean())


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Summarises a mode's episodes.

    Returns:
        Counts over all episodes (episodes, successes, steps); the success rate's 95% interval;
        step_ms, the reaction latency of steps with an answer of their own; compute_ms, mean of a
        step including what was done while the arm moved; means over episodes (steps_per_episode; of
        decoding, seconds_per_episode, and compute_per_episode, s, with what was done while the arm
        moved; distance of the tip, m; gripper_flips, jerk, limit_events); seconds_to_finish, of
        motion, mean over the episodes that succeeded (None without any); means over steps
        (passes_per_step, skip_rate, parts_ms, sources as shares, reasons as shares);
        acceptance_length over verified steps alone, None where nothing was drafted; shadow, of
        verified skips how many broke the tolerance.
    """
    successes, steps = sum(row["success"] for row in rows), sum(row["steps"] for row in rows)
    summary: dict[str, Any] = {
        "episodes": len(rows),
        "successes": successes,
        "success_interval": [round(x, 4) for x in wilson_interval(successes, len(rows))],
        "steps": steps,
    }
    if not steps:
        return summary

    def per_episode(value: Callable[[Row], float]) -> float:
        return round(float(np.mean([value(row) for row in rows])), 4)

    return {
        **summary,
        "steps_per_episode": per_episode(lambda row: row["steps"]),
        "seconds_per_episode": per_episode(lambda row: sum(row["ms"]) / 1e3),
        "compute_per_episode": per_episode(compute_seconds),
        "distance": per_episode(distance),
        "seconds_to_finish": _seconds_to_finish([row for row in rows if row["success"]]),
        "gripper_flips": per_episode(lambda row: len(row["gripper_steps"])),
        "jerk": per_episode(lambda row: row["jerk"]),
        "limit_events": per_episode(lambda row: row["limit_events"]),
        **decoding_summary(rows),
        **time_summary(rows),
    }


def compute_seconds(row: Row) -> float:
    """Returns the decoding time of an episode, s: its steps and deferred verification."""
    return float(sum(row["ms"]) + sum(ms for _, ms, _ in row["settled"])) / 1e3


def distance(row: Row) -> float:
    """Returns the length of the tip's path, m."""
    path = np.diff(np.array(row["tip_mm"], np.float64), axis=0)
    return float(np.linalg.norm(path, axis=1).sum()) / 1e3


def _seconds_to_finish(rows: Sequence[Row]) -> float | None:
    if not rows:
        return None
    return round(float(np.mean([row["steps"] for row in rows])) / CONTROL_RATE_HZ, 4)


def decoding_summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Summarises how the steps of some rows were decoded: the part of `summarise` without times."""
    steps = sum(row["steps"] for row in rows)
    settled = [entry for row in rows for entry in row["settled"]]
    sources = Counter("".join(row["source"] for row in rows))
    accepted = [
        count
        for row in rows
        for count, source in zip(row["accepted"], row["source"], strict=True)
        if count is not None and source != Source.SKIP.letter
    ]
    return {
        "acceptance_length": round(float(np.mean(accepted)), 4) if accepted else None,
        "skip_rate": round(sources[Source.SKIP.letter] / steps, 4),
        "passes_per_step": round(sum(sum(row["passes"]) for row in rows) / steps, 4),
        "shadow": {
            "verified": len(settled),
            "disagreed": sum(not agrees for _, _, agrees in settled),
        },
        "sources": {
            str(source): round(sources[source.letter] / steps, 4)
            for source in deciding()
            if source not in _LONG_ANSWERS or sources[source.letter]
        },
        "reasons": _shares([row["reasons"] for row in rows], steps),
    }


def time_summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Summarises how long the steps took: step_ms, compute_ms and parts_ms of `summarise`."""
    steps, total_ms = sum(row["steps"] for row in rows), sum(sum(row["ms"]) for row in rows)
    times = np.concatenate([np.array(row["ms"])[answered(row)] for row in rows])
    settled_ms = sum(ms for row in rows for _, ms, _ in row["settled"])
    return {
        "step_ms": {
            "p50": round(float(np.percentile(times, 50)), 3),
            "p95": round(float(np.percentile(times, 95)), 3),
            "p99": round(float(np.percentile(times, 99)), 3),
            "mean": round(float(times.mean()), 3),
        },
        "compute_ms": round(float(total_ms + settled_ms) / steps, 3),
        "parts_ms": _shares([row["parts_ms"] for row in rows], steps),
    }


def _shares(counts: Iterable[Mapping[str, float]], steps: int) -> dict[str, float]:
    return {name: round(value / steps, 4) for name, value in _total(counts).items()}


def _total(counts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Returns sums by name, the largest first."""
    total: dict[str, float] = {}
    for entry in counts:
        for name, value in entry.items():
            total[name] = total.get(name, 0.0) + value
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def kind_of(reason: str) -> str:
    """Returns a reason without its numbers, and what weighed in it, by which steps are counted."""
    return re.sub(r"[-+]?\d+(\.\d+)?", "#", re.sub(r" \[[^\]]*\]", "", reason))

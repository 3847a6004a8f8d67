"""Made-up evaluations: records of episodes as rollouts leave them, and whole results files."""

from __future__ import annotations

import numpy as np
from support.fake_scene import REST, KinematicScene

from heisd_ros.decoding.types import Settled, StepResult
from heisd_ros.evaluation.accounting import episode_row
from heisd_ros.evaluation.results import Results
from heisd_ros.evaluation.rollout import EpisodeResult, StepRecord
from heisd_ros.kinematics.metric import MetricSample

TOKENS = (100,) * 7


class FiledScene(KinematicScene):
    """Knows also what results are filed under, as a LIBERO scene does."""

    def __init__(self, suite="libero_spatial", task_index=0, goal_steps=4):
        super().__init__(suite, task_index, goal_steps=goal_steps)
        self.suite, self.task_index = suite, task_index

    def gripper_opening(self):
        return float(np.abs(self.gripper_positions()).sum())


def step(
    source="autoregressive",
    ms=20.0,
    passes=7,
    accepted=None,
    gripper=-1.0,
    tokens=TOKENS,
    tip=(0.4, 0.0, 0.3),
    metric=None,
    settled=None,
    reason="made up",
    similarity=None,
    joints=REST,
):
    """One record; `metric` is a value of F, `settled` (ms, agrees)."""
    result = StepResult(
        action=np.array([0.0] * 6 + [gripper]),
        tokens=tokens,
        source=source,
        reason=reason,
        timings_ms={"vision": 0.25 * ms, "prefill": 0.75 * ms, "total": ms},
        passes=passes,
        accepted=accepted,
        similarity=similarity,
    )
    motion = None
    if metric is not None:
        motion = MetricSample(metric, 0.1, 0.5, 0.2, "paper", True, "velocity")
    return StepRecord(
        result=result,
        motion=motion,
        metric_ms=0.0,
        settled=None if settled is None else Settled(*settled),
        tip=np.array(tip, np.float64),
        joints=np.array(joints, np.float64),
    )


def episode(records, task_index=0, init_state=40, success=True):
    """An episode of these records."""
    return EpisodeResult("libero_spatial", task_index, init_state, success, list(records))


MODES = {
    # name: (share of skips, of retrieval, of drafts), ms of each source, chance of success
    "ar": ((0.0, 0.0, 0.0), 0.79),
    "heisd": ((0.45, 0.15, 0.3), 0.79),
    "spec_vla": ((0.0, 0.0, 1.0), 0.75),
    "retrieval_only": ((1.0, 0.0, 0.0), 0.55),
}
_MS = {"autoregressive": 24.0, "drafter": 15.0, "retrieval": 10.0, "skip": 4.5}
_PASSES = {"autoregressive": 7, "drafter": 3, "retrieval": 2, "skip": 0}


def made_up_results(modes=MODES, tasks=2, states=2, steps=60, seed=0):
    """Results of modes on a few initial states, of plausible shape and without meaning."""
    rng = np.random.default_rng(seed)
    boundary = {"metric": "paper", "value": 0.27, "hysteresis": 0.05}
    results = Results(
        {
            "suite": "libero_spatial",
            "seed": seed,
            "model": "0" * 64,
            "machine": "made up",
            "modes": {
                name: {"description": name, "settings": {}, "boundary": boundary} for name in modes
            },
        }
    )
    for state in range(40, 40 + states):
        for task in range(tasks):
            busy = rng.uniform(1.0, 1.3)
            results.add(_row(name, modes[name], task, state, steps, busy, rng) for name in modes)
    return results


def _row(name, mode, task, state, steps, busy, rng):
    (skip, retrieval, drafter), rate = mode
    count = int(steps * rng.uniform(0.8, 1.3))
    time = np.linspace(0.0, 1.0, count)
    waypoints = np.array([[0.45, 0, 0.3], [0.55, 0.2, 0.05], [0.5, 0.1, 0.25], [0.6, -0.2, 0.06]])
    waypoints[1:3, :2] += rng.normal(scale=0.05, size=2)
    progress = 3 * (time - np.sin(6 * np.pi * time) / (6 * np.pi))
    tips = np.stack([np.interp(progress, range(4), waypoints[:, i]) for i in range(3)], axis=1)
    speed = 1 - np.cos(6 * np.pi * time)
    records = []
    for i in range(count):
        fast = skip + retrieval > 0 and (drafter == 0 or speed[i] > 0.6)
        trusted = rng.random() < skip / (skip + retrieval) if fast else False
        source = "skip" if trusted else "retrieval" if fast else "autoregressive"
        source = "drafter" if source == "autoregressive" and drafter else source
        records.append(
            step(
                source=source,
                ms=_MS[source] * busy * rng.lognormal(0.0, 0.15),
                passes=_PASSES[source],
                accepted=int(rng.integers(3, 8)) if source in ("retrieval", "drafter") else None,
                gripper=1.0 if 1.05 < progress[i] < 2.9 else -1.0,
                tip=tips[i],
                metric=float(speed[i] / 2) if drafter and i > 13 else None,
                settled=(12.0, rng.random() > 0.04) if trusted and rng.random() < 0.05 else None,
                reason=f"F {speed[i]:.2f} {'>=' if fast else '<'} 0.27",
                similarity=0.97 if fast else None,
            )
        )
    return episode_row(name, episode(records, task, state, bool(rng.random() < rate)))

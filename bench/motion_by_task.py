"""How the scripted expert moves, task by task, as the shipped kinematic metric sees it.

    python bench/motion_by_task.py --suite heisd_curves --json out/motion.json

Episodes are those of `heisd demos`, seed by seed with the first way to grasp, without pictures: so
three of four are disturbed, and failed ones are left out. Every control step with a full window
counts.
"""

from __future__ import annotations

import argparse
import json
from itertools import count
from pathlib import Path

import numpy as np

from heisd_ros.cli.workers import run_jobs
from heisd_ros.sim.suites import SCRIPTED

SLOW = 0.12
"""Speed, m/s, under which the hand-set threshold of the modes takes motion for slow."""


def motion_of(suite: str, task: int, episodes: int) -> tuple[str, list[tuple[float, float, float]]]:
    """Name of a task, and metric, speed (m/s) and radius (m) of each step of its episodes."""
    from heisd_ros.kinematics.arm import ArmKinematics
    from heisd_ros.kinematics.metric import FusedMetric, MetricBounds, MetricSample
    from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
    from heisd_ros.models import shipped_model
    from heisd_ros.sim.demonstrations import run_expert
    from heisd_ros.sim.scene import CONTROL_RATE_HZ, LiberoScene

    text = (shipped_model() / "metric_bounds.json").read_text()
    metric = FusedMetric(MetricBounds.from_json(text))
    scene, arm = LiberoScene(suite, task), ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
    every: list[MetricSample] = []
    for seed in count():
        metric.reset()
        samples: list[MetricSample] = []

        def note(action: np.ndarray, samples: list[MetricSample] = samples) -> None:
            motion = arm.tip_motion(scene.joint_positions(), scene.joint_velocities())
            samples.append(metric.update(*motion, len(samples) / CONTROL_RATE_HZ))

        if run_expert(scene, 0, seed, note) is not None:
            every += samples
            episodes -= 1
        if episodes == 0:
            break
    scene.close()
    return scene.task_name, [(s.value, s.speed, s.curvature_radius) for s in every if s.ready]


def summary(steps: np.ndarray, boundary: float) -> dict[str, float]:
    """Figures of a task from its (N, 3) steps."""
    value, speed, radius = steps.T
    low, slow = value < boundary, speed < SLOW
    return {
        "steps": len(steps),
        "below": float(low.mean()),
        "slow": float(slow.mean()),
        "slow_and_above": float((slow & ~low).mean()),
        "fast_and_below": float((~slow & low).mean()),
        "speed": float(np.median(speed)),
        "radius": float(np.median(radius)),
        "radius_slow": float(np.median(radius[slow])),
    }


def main() -> None:
    """Prints a line a task and one for all."""
    from heisd_ros.kinematics.metric import MetricBounds
    from heisd_ros.models import shipped_model

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=sorted(SCRIPTED), default="heisd_curves")
    parser.add_argument("--episodes", type=int, default=3, help="episodes of each task")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one a core")
    parser.add_argument("--json", type=Path, help="file of the results")
    options = parser.parse_args()
    boundary = MetricBounds.from_json((shipped_model() / "metric_bounds.json").read_text()).boundary
    jobs = [(options.suite, task, options.episodes) for task in SCRIPTED[options.suite]]
    tasks = {
        name: np.array(steps)
        for name, steps in run_jobs(motion_of, jobs, options.suite, options.workers)
    }
    tasks["all"] = np.concatenate([*tasks.values()])
    results = {name: summary(steps, boundary) for name, steps in tasks.items()}
    for name, row in results.items():
        figures = "  ".join(f"{key} {number:.3g}" for key, number in row.items())
        print(f"{figures}  {name}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"boundary": boundary, "tasks": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()

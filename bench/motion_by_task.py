"""How the scripted expert moves, task by task, as the kinematic metric sees it.

    python bench/motion_by_task.py --suite heisd_curves --json out/motion.json

Episodes are those of `heisd demos`, seed by seed with the first way to grasp, without pictures:
three of four are disturbed, and failed ones are left out. Every control step with a full window
counts. `below` is the share of steps below the boundary that the shipped database has for the mode
`heisd`, `below_all` below that of `metric_bounds.json`, which is of all demonstrations.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from heisd_ros.cli.workers import run_jobs
from heisd_ros.decoding.modes import load_mode
from heisd_ros.kinematics.metric import MetricBounds
from heisd_ros.kinematics.motion import Motion, MotionWindow
from heisd_ros.models import shipped_model
from heisd_ros.sim.suites import SCRIPTED

SLOW = load_mode("heisd").skip.speed
"""Speed, m/s, under which that mode takes motion for slow."""
_TRIES = 4
"""Episodes tried for each one that is wanted, at most."""


def motion_of(suite: str, task: int, episodes: int) -> tuple[str, list[Motion]]:
    """Name of a task, and the motion over each full window of its episodes."""
    from heisd_ros.kinematics.arm import ArmKinematics
    from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
    from heisd_ros.sim.demonstrations import run_expert
    from heisd_ros.sim.scene import CONTROL_RATE_HZ, LiberoScene

    scene, arm = LiberoScene(suite, task), ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
    window, every, solved = MotionWindow(bounds()[0].settings), list[Motion](), 0
    for seed in range(_TRIES * episodes):
        window.reset()
        motions: list[Motion] = []

        def note(action: np.ndarray, motions: list[Motion] = motions) -> None:
            tip = arm.tip_motion(scene.joint_positions(), scene.joint_velocities())
            motions.append(window.update(*tip, len(motions) / CONTROL_RATE_HZ))

        if run_expert(scene, 0, seed, note) is not None:
            every += motions
            solved += 1
        if solved == episodes:
            break
    scene.close()
    return scene.task_name, [motion for motion in every if motion.ready]


def bounds() -> tuple[MetricBounds, MetricBounds]:
    """Bounds of the shipped database, and of all demonstrations of the shipped model."""
    manifest = json.loads((shipped_model() / "database" / "manifest.json").read_text())
    database = MetricBounds.from_json(json.dumps(manifest["bounds"]["paper"]))
    return database, MetricBounds.from_json((shipped_model() / "metric_bounds.json").read_text())


def summary(motions: list[Motion]) -> dict[str, float]:
    """Figures of a task: shares of steps, and medians of speed (m/s) and radius (m)."""
    below, below_all = (
        np.array([scale.fuse(motion) < scale.boundary for motion in motions]) for scale in bounds()
    )
    speed = np.array([motion.speed for motion in motions])
    radius = np.array([motion.curvature_radius for motion in motions])
    slow = speed < SLOW
    return {
        "steps": len(motions),
        "below": float(below.mean()),
        "below_all": float(below_all.mean()),
        "slow": float(slow.mean()),
        "slow_but_above_all": float((slow & ~below_all).mean()),
        "fast_but_below_all": float((~slow & below_all).mean()),
        "speed": float(np.median(speed)),
        "radius": float(np.median(radius)),
        "curved": float((radius < 0.2).mean()),
    }


def main() -> None:
    """Prints a line a task and one for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=sorted(SCRIPTED), default="heisd_curves")
    parser.add_argument("--task", type=int, nargs="*", help="only these tasks")
    parser.add_argument("--episodes", type=int, default=2, help="episodes of each task")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one a core")
    parser.add_argument("--json", type=Path, help="file of the results")
    options = parser.parse_args()
    tasks = options.task or SCRIPTED[options.suite]
    jobs = [(options.suite, task, options.episodes) for task in tasks]
    results, every = {}, list[Motion]()
    for name, motions in run_jobs(motion_of, jobs, options.suite, options.workers):
        every += motions
        for row, steps in ((name, motions), ("all", every)):
            results[row] = summary(steps)
            figures = "  ".join(f"{key} {number:.3g}" for key, number in results[row].items())
            print(f"{figures}  {row}", flush=True)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        row = {"suite": options.suite, "episodes": options.episodes, "tasks": results}
        options.json.write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()

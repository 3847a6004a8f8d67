"""How often the scripted expert solves its tasks from the held-out initial states.

    python bench/expert_success.py --suite libero_spatial --json out/expert.json

In calm episodes: no noise and no pushes, but the start pose varies as in demonstrations. An object
that is dropped may be taken up again. Nothing is rendered, so this shows the held-out states to no
one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from heisd_ros.cli.workers import run_jobs
from heisd_ros.evaluation.statistics import wilson_interval
from heisd_ros.sim.suites import SCRIPTED


def solve(suite: str, task: int, states: int) -> tuple[str, list[int | None]]:
    """Steps of each episode of one task, None where the expert failed."""
    from heisd_ros.sim.demonstrations import HELD_OUT_STATES as held_out
    from heisd_ros.sim.demonstrations import choose_grasp, run_expert
    from heisd_ros.sim.scene import LiberoScene

    scene = LiberoScene(suite, task)
    try:
        grasp = choose_grasp(scene)
        # Seeds divisible by four are the calm ones.
        steps = [
            run_expert(scene, grasp, 4 * state, state=state, drops_fail=False)
            for state in held_out[:states]
        ]
    finally:
        scene.close()
    return scene.task_name, steps


def main() -> None:
    """Prints a line a task and the total."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=sorted(SCRIPTED), default="libero_spatial")
    parser.add_argument(
        "--states", type=int, choices=range(1, 11), default=10, help="held-out states of each task"
    )
    parser.add_argument("--json", type=Path, help="file of the results")
    options = parser.parse_args()
    jobs = [(options.suite, task, options.states) for task in SCRIPTED[options.suite]]
    tasks = dict(run_jobs(solve, jobs, options.suite))
    for name, steps in sorted(tasks.items()):
        print(f"{sum(s is not None for s in steps)}/{len(steps)}  {name}  {steps}")
    every = [s for steps in tasks.values() for s in steps]
    won = sum(s is not None for s in every)
    low, high = wilson_interval(won, len(every))
    print(f"{won}/{len(every)} solved, 95% interval {low:.1%} to {high:.1%}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        results = {"suite": options.suite, "solved": won, "episodes": len(every), "tasks": tasks}
        options.json.write_text(json.dumps(results | {"interval": [low, high]}, indent=1) + "\n")


if __name__ == "__main__":
    main()

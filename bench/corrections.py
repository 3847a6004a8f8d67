"""What one round of corrections does to a policy, on its hardest task and on the others.

    OMP_NUM_THREADS=1 python bench/corrections.py out/corrections --json out/corrections.json

The policy leads episodes of the hardest task, and a simulated person (the scripted expert) takes
over when it stalls. The policy then learns from the person's steps, mixed with plain demonstrations
of all tasks. Before and after, it runs the same drawn starts, which no training saw. Everything is
done by the package's commands, one after another in one folder; a run that was stopped goes on
where it was, and the results file says what ran, when the machine was how busy.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from heisd_ros.benchmark.machine import processor
from heisd_ros.data.libero_source import LiberoSource
from heisd_ros.data.read_report import Outline
from heisd_ros.evaluation.accounting import start_of
from heisd_ros.evaluation.results import read_results
from heisd_ros.evaluation.statistics import mcnemar, paired_difference
from heisd_ros.files.atomic import replace_text
from heisd_ros.models import shipped_model

HARDEST = 5
"""`ar` solves 7 of 10 there, the fewest of all tasks: bench/results/modes_two_cores.json."""
FRESH = 1030
"""Starts that the shipped model was not trained from, at initial states 30 to 39 first. From the
starts of its demonstrations it hardly ever stalls."""
SHIPPED = "SHIPPED"
Outcomes = dict[tuple[int, int, int], bool]
"""Success by task, initial state and variation of the start."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the round; a round is resumed")
    parser.add_argument("--json", type=Path, required=True, help="file of the results")
    parser.add_argument("--model", default="", help="checkpoint to correct; empty: the shipped one")
    parser.add_argument("--suite", default="libero_spatial")
    parser.add_argument("--task", type=int, default=HARDEST, help="that is corrected")
    parser.add_argument("--tasks", type=int, nargs="+", default=list(range(10)), help="all of them")
    parser.add_argument("--led", type=int, default=30, help="episodes that the policy leads")
    parser.add_argument("--first-seed", type=int, default=FRESH, help="of the led episodes")
    parser.add_argument("--plain", type=int, default=2, help="demonstrations of each task")
    parser.add_argument("--stride", type=int, default=2, help="record every n-th control step")
    parser.add_argument("--steps", type=int, default=300, help="of the optimiser")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--person-weight", type=float, default=2.0)
    parser.add_argument("--starts", type=int, default=20, help="drawn starts of the task")
    parser.add_argument("--other-starts", type=int, default=1, help="of each other task")
    parser.add_argument("--draw", type=int, default=23, help="seed of the starts")
    parser.add_argument("--max-steps", type=int, default=0, help="of an episode; 0: the suite's")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    return parser.parse_args(arguments)


def commands(given: argparse.Namespace) -> Iterator[str]:
    """The commands of a round, in order; `SHIPPED` stands for the model that ships."""
    suite = f"--suite {given.suite} --workers {given.workers}"
    demos = f"{suite} --stride {given.stride}"
    every = " ".join(f"--task {task}" for task in given.tasks)
    folder, model = shlex.quote(str(given.folder)), shlex.quote(given.model or SHIPPED)

    def evaluations(name: str, checkpoint: str) -> Iterator[str]:
        run = f"eval --model {checkpoint} {suite} --draw {given.draw} --max-steps {given.max_steps}"
        yield f"{run} --task {given.task} --episodes {given.starts} --json {folder}/{name}.json"
        others = " ".join(f"--task {task}" for task in given.tasks if task != given.task)
        if others and given.other_starts:
            run += f" --episodes {given.other_starts} --json {folder}/{name}_others.json"
            yield f"{run} {others}"

    yield from evaluations("before", model)
    lead = f"--task {given.task} --episodes {given.led} --first-seed {given.first_seed}"
    lead += f" --lead {model} --until-stall"
    yield f"demos {folder}/corrected {lead} {demos}"
    yield f"demos {folder}/plain {every} --episodes {given.plain} {demos}"
    yield (
        f"train vla {folder}/plain {folder}/corrected {folder}/run --start-from {model} "
        f"--steps {given.steps} --batch-size {given.batch_size} "
        f"--learning-rate {given.learning_rate:g} "
        f"--person-weight {given.person_weight:g} --policy-weight 0"
    )
    yield from evaluations("after", f"{folder}/run/checkpoint")


def words(command: str) -> list[str]:
    """Splits a command as a shell does, with the folder of the shipped model where it is named."""
    return [str(shipped_model()) if word == SHIPPED else word for word in shlex.split(command)]


def run(command: str) -> None:
    """Runs one of the package's commands.

    Raises:
        subprocess.CalledProcessError: It failed; it has said why.
    """
    subprocess.run([sys.executable, "-m", "heisd_ros.cli.main", *words(command)], check=True)


def outcomes(folder: Path, name: str) -> Outcomes:
    """Reads the episodes of the evaluations `before` or `after`."""
    files = sorted([*folder.glob(f"{name}.json"), *folder.glob(f"{name}_others.json")])
    rows = [row for file in files for row in read_results(file)["episodes"]]
    return {start_of(row): row["success"] for row in rows}


def paired(before: Outcomes, after: Outcomes) -> dict[str, Any]:
    """Compares the same starts before and after.

    Returns:
        Successes, how many starts were `won` and `lost`, their difference with its 95% interval,
        and the chance of a split so uneven if nothing had changed.

    Raises:
        ValueError: The starts are not the same.
    """
    if before.keys() != after.keys():
        raise ValueError(f"before: {sorted(before)}, after: {sorted(after)}; the same are needed")
    won = sum(after[start] > before[start] for start in before)
    lost = sum(after[start] < before[start] for start in before)
    both = sum(before.values()) - lost
    change = paired_difference(both, won, lost, len(before) - both - won - lost)
    return {
        "starts": len(before),
        "before": sum(before.values()),
        "after": sum(after.values()),
        "won": won,
        "lost": lost,
        "difference": [round(number, 3) for number in change],
        "by_chance": round(mcnemar(won, lost), 4),
    }


def recorded(folder: Path) -> dict[str, int]:
    """Counts what the files of a folder hold."""
    outlines: list[Outline] = []
    for file in sorted(folder.glob("*_demo.hdf5")):
        outlines += LiberoSource(file).outline()
    return {
        "episodes": len(outlines),
        "corrected": sum(each.person_steps > 0 for each in outlines),
        "frames": sum(each.steps for each in outlines),
        "person_frames": sum(each.person_steps for each in outlines),
    }


def summary(given: argparse.Namespace) -> dict[str, Any]:
    """What a complete round has shown."""
    before, after = outcomes(given.folder, "before"), outcomes(given.folder, "after")

    def of(task: int) -> dict[str, Any]:
        return paired(
            *({s: w for s, w in all_.items() if s[0] == task} for all_ in (before, after))
        )

    def others(all_: Outcomes) -> Outcomes:
        return {start: won for start, won in all_.items() if start[0] != given.task}

    return {
        "recorded": {name: recorded(given.folder / name) for name in ("corrected", "plain")},
        "corrected_task": {"task": given.task, **of(given.task)},
        "other_tasks": paired(others(before), others(after)),
        "by_task": {task: of(task) for task in sorted({start[0] for start in before})},
        "losses": json.loads((given.folder / "run" / "losses.json").read_text()),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is left of the round and prints the table."""
    given = parse(arguments)
    here = {name: str(value) for name, value in vars(given).items() if name != "json"}
    results: dict[str, Any] = {"round": here, "machine": processor(), "ran": []}
    if given.json.is_file():
        results = json.loads(given.json.read_text(encoding="utf-8"))
        if results["round"] != here:
            raise SystemExit(
                f"{given.json} is of the round {results['round']}, now it is {here}; "
                "name another folder and file"
            )
    given.json.parent.mkdir(parents=True, exist_ok=True)
    done = {entry["command"] for entry in results["ran"]}
    for command in commands(given):
        if command in done:
            continue
        print(f"heisd {command}", flush=True)
        load, begun = os.getloadavg()[0], time.monotonic()
        run(command)
        entry = {"command": command, "seconds": round(time.monotonic() - begun)}
        loads = {"load_before": round(load, 2), "load_after": round(os.getloadavg()[0], 2)}
        results["ran"].append({**entry, **loads})
        replace_text(given.json, json.dumps(results, indent=1) + "\n")
    results |= summary(given)
    replace_text(given.json, json.dumps(results, indent=1) + "\n")
    print("| starts | before | after | won | lost | by chance |\n|---|---|---|---|---|---|")
    for name in ("corrected_task", "other_tasks"):
        row = results[name]
        cells = [f"{row[when]}/{row['starts']}" for when in ("before", "after")]
        cells += [str(row[key]) for key in ("won", "lost", "by_chance")]
        print(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

"""`heisd eval`: success rate and latency on held-out initial states."""

from __future__ import annotations

import json
import platform
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from heisd_ros.cli.demos import PICK_AND_PLACE
from heisd_ros.cli.workers import cores, run_jobs

app = typer.Typer(add_completion=False)


@app.command(name="eval")
def evaluate(
    suite: Annotated[str, typer.Option(help="LIBERO suite.")] = "libero_spatial",
    model: Annotated[str, typer.Option(help="Checkpoint folder; empty: the shipped one.")] = "",
    episodes: Annotated[int, typer.Option(help="Held-out states of each task.", min=1, max=10)] = (
        10
    ),
    task: Annotated[list[int] | None, typer.Option(help="Only these tasks.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0: one a core.", min=0)] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Results; a run is resumed from it.")
    ] = None,
) -> None:
    """Run a model by plain greedy decoding on initial states that training never saw."""
    from heisd_ros.models import shipped_model
    from heisd_ros.vla.checkpoint import fingerprint

    tasks = task or list(PICK_AND_PLACE.get(suite, range(10)))
    print_of_model = fingerprint(model or shipped_model())
    results: dict[str, Any] = {
        "suite": suite,
        "model": print_of_model,
        "mode": "ar",
        "machine": f"{platform.machine()}, {cores()} cores",
        "episodes": [],
    }
    if json_file is not None and json_file.is_file():
        results = json.loads(json_file.read_text())
        if (results["suite"], results["model"]) != (suite, print_of_model):
            raise typer.BadParameter(f"{json_file} holds another suite or model; give a new file")
    done = {(row["task_index"], row["init_state"]) for row in results["episodes"]}
    jobs = [
        (suite, index, state, model)
        for state in range(40, 40 + episodes)
        for index in tasks
        if (index, state) not in done
    ]
    for episode in run_jobs(_episode, jobs, f"{suite}, episodes", workers):
        results["episodes"].append(episode)
        if json_file is not None:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(results, indent=1) + "\n")
    _print(results["episodes"])


_decoders: dict[str, Any] = {}
"""A worker's loaded models, by folder."""


def _episode(suite: str, task_index: int, init_state: int, model: str) -> dict[str, Any]:
    import torch

    from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
    from heisd_ros.evaluation.rollout import run_episode
    from heisd_ros.models import shipped_model
    from heisd_ros.sim.scene import LiberoScene
    from heisd_ros.vla.checkpoint import load_checkpoint

    torch.set_num_threads(1)
    if model not in _decoders:
        _decoders[model] = AutoregressiveDecoder(load_checkpoint(model or shipped_model()))
    scene = LiberoScene(suite, task_index)
    try:
        return asdict(run_episode(scene, _decoders[model], init_state))
    finally:
        scene.close()


def _print(episodes: list[dict[str, Any]]) -> None:
    from heisd_ros.evaluation.statistics import wilson_interval

    table = Table("task", "success", "95% interval", "steps (median)", "step ms p50", "p95")
    groups = sorted({row["task_index"] for row in episodes})
    for label, rows in [
        *((str(g), [row for row in episodes if row["task_index"] == g]) for g in groups),
        ("all", episodes),
    ]:
        successes = sum(row["success"] for row in rows)
        low, high = wilson_interval(successes, len(rows))
        times = np.concatenate([row["step_ms"] for row in rows])
        table.add_row(
            label,
            f"{successes}/{len(rows)}",
            f"{low:.0%} to {high:.0%}",
            f"{statistics.median(row['steps'] for row in rows):.0f}",
            f"{np.percentile(times, 50):.1f}",
            f"{np.percentile(times, 95):.1f}",
        )
    Console().print(table)

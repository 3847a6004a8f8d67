"""`heisd eval`: success, latency and how decoding went, on held-out initial states."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from heisd_ros.cli.model_options import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    ProtocolOption,
    UnnormKeyOption,
    WorkersOption,
)
from heisd_ros.cli.ray_jobs import run_jobs_on_ray
from heisd_ros.cli.refusals import refusing
from heisd_ros.cli.workers import cores, run_jobs, threads_each
from heisd_ros.sim.suites import tasks_of

if TYPE_CHECKING:
    from heisd_ros.evaluation.setup import Parts, Setup
    from heisd_ros.evaluation.side_by_side import SideBySide
    from heisd_ros.evaluation.starts import Start

app = typer.Typer(add_completion=False)


@app.command(name="eval")
def evaluate(
    suite: Annotated[str, typer.Option(help="LIBERO suite.")] = "libero_spatial",
    model: ModelOption = "",
    modes: Annotated[
        str, typer.Option(help="Decoding modes (config/modes) or YAML files, with commas between.")
    ] = "ar",
    episodes: Annotated[
        int,
        typer.Option(help="Episodes of each task; 0: one from each state of the protocol.", min=0),
    ] = 0,
    draw: Annotated[
        int,
        typer.Option(
            help="Seed by which starts are drawn: each initial state with the arm moved a little, "
            "as often as asked for; no calibration draws the same. 0: the states as they are.",
            min=0,
        ),
    ] = 0,
    task: Annotated[list[int] | None, typer.Option(help="Only these tasks.")] = None,
    database: Annotated[
        str, typer.Option(help="Retrieval database; empty: the folder `database` of the model.")
    ] = "",
    drafter: Annotated[
        str, typer.Option(help="Drafter; empty: the folder `drafter` of the model.")
    ] = "",
    rate_of: Annotated[
        Path | None,
        typer.Option(
            help="Results file: random_skip and hold_last skip as often as heisd did there; empty: "
            "as often as it was calibrated."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order of modes and of random choices.")] = 0,
    max_steps: Annotated[
        int,
        typer.Option(help="Control steps of an episode; 0: as many as the suite allows.", min=0),
    ] = 0,
    chunk_execute: Annotated[
        int,
        typer.Option(
            help="How many of the first actions of a model's chunk are executed before the model "
            "decides the next one; 0: all.",
            min=0,
        ),
    ] = 0,
    chunk_blend: Annotated[
        int, typer.Option(help="Actions over which a chunk is faded in.", min=0)
    ] = 0,
    protocol: ProtocolOption = "",
    unnorm_key: UnnormKeyOption = "",
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    workers: WorkersOption = 0,
    ray: Annotated[
        str,
        typer.Option(
            help="Ray cluster that runs the starts, one a core: HOST:PORT, or auto for the one of "
            "this machine; empty: processes here. Model and package are needed on each machine."
        ),
    ] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Results; a run is resumed from it.")
    ] = None,
) -> None:
    """Run decoding modes side by side on initial states that training never saw.

    A checkpoint of OpenVLA's own is run as OpenVLA evaluates LIBERO (docs/models.md).
    All modes run each initial state back to back in the same process, in shuffled order, so that
    episodes are paired and a slow moment of the machine meets all modes alike. `heisd report` makes
    a page of the results.
    """
    from heisd_ros.benchmark.machine import processor
    from heisd_ros.decoding.chunks import ChunkUse
    from heisd_ros.errors import ClusterError, HeisdError, MissingPackageError
    from heisd_ros.evaluation.results import Results
    from heisd_ros.evaluation.setup import Parts, Setup
    from heisd_ros.evaluation.skip_rates import measured_rates
    from heisd_ros.evaluation.starts import evaluation_starts
    from heisd_ros.models import find_model

    with refusing():
        folder = find_model(model)
        rates = measured_rates(rate_of) if rate_of is not None else None
    setup = Setup(
        suite=suite,
        model=str(folder),
        modes=tuple(name.strip() for name in modes.split(",") if name.strip()),
        database=database or str(folder / "database"),
        drafter=drafter or str(folder / "drafter"),
        seed=seed,
        max_steps=max_steps or None,
        protocol=protocol,
        unnorm_key=unnorm_key,
        device=device,
        dtype=dtype,
        rates=rates,
        chunk=ChunkUse(chunk_execute, chunk_blend),
    )
    workers = workers or (1 if device.startswith("cuda") else cores())
    with refusing():
        parts = Parts(setup)
        states = parts.protocol.states(0 if draw else episodes)
        header = parts.describe() | {
            "machine": processor(),
            "workers": workers,
            "threads": 1 if ray else threads_each(workers),
            **({"draw": draw} if draw else {}),
            **({"ray": True} if ray else {}),
        }
        results = Results.resume(header, json_file, os.getloadavg()[0])
    done = results.done
    # The published protocol is that of all tasks, also of those that our expert doesn't know.
    tasks = list(dict.fromkeys(task or tasks_of(suite, parts.protocol.name == "heisd")))
    # State by state over the tasks, so that a run that is cut short has seen all of them.
    starts = evaluation_starts(tasks, states, episodes or len(states), draw)
    jobs = [(setup, start) for start in starts if astuple(start) not in done]
    label = f"{suite}: starts, {len(header['modes'])} mode(s) each"
    running = (
        run_jobs_on_ray(ray, _group, jobs, label, gpus_each=float(device.startswith("cuda")))
        if ray
        else run_jobs(_group, jobs, label, workers)
    )
    with refusing(HeisdError), refusing((ClusterError, MissingPackageError), "--ray"):
        for rows in running:
            results.add(rows)
    console = Console()
    console.print(modes_table(results.finish()))
    if len(header["modes"]) == 1:
        console.print(tasks_table(results.episodes))


_prepared: dict[Setup, tuple[Parts, SideBySide]] = {}
"""What a worker has loaded, by what it was asked for."""


def _group(setup: Setup, start: Start) -> list[dict[str, Any]]:
    from heisd_ros.evaluation.setup import Parts
    from heisd_ros.evaluation.side_by_side import SideBySide

    if setup not in _prepared:
        parts = Parts(setup)
        _prepared[setup] = parts, SideBySide.load(parts)
    parts, side_by_side = _prepared[setup]
    scene = parts.scene(start.task_index)
    try:
        return side_by_side.run(scene, start)
    finally:
        scene.close()


def modes_table(summary: Mapping[str, Any]) -> Table:
    """One line a mode.

    Args:
        summary: What `Results.finish` returns.
    """
    table = Table(
        "mode",
        "success",
        "95% interval",
        "speedup (95%)",
        "p50 ms",
        "p95",
        "p99",
        "mean",
        "accepted",
        "skipped",
        "passes",
        "steps",
        title=f"{summary['suite']}; speedup: ratio of medians to that of ar",
    )
    for name, mode in summary["modes"].items():
        if not mode.get("steps"):
            continue
        low, high = mode["success_interval"]
        speedup, length = (
            (mode.get("versus") or {}).get("speedup_median"),
            mode["acceptance_length"],
        )
        table.add_row(
            name,
            f"{mode['successes']}/{mode['episodes']}",
            f"{low:.0%} to {high:.0%}",
            "{value:.2f} ({low:.2f} to {high:.2f})".format(**speedup) if speedup else "",
            *(f"{mode['step_ms'][key]:.1f}" for key in ("p50", "p95", "p99", "mean")),
            "" if length is None else f"{length:.2f}",
            f"{mode['skip_rate']:.0%}",
            f"{mode['passes_per_step']:.2f}",
            f"{mode['steps_per_episode']:.0f}",
        )
    return table


def tasks_table(episodes: Sequence[Mapping[str, Any]]) -> Table:
    """One line a task, of the episodes of one mode."""
    from heisd_ros.evaluation.statistics import wilson_interval

    table = Table("task", "success", "95% interval", "steps (median)")
    for index in sorted({row["task_index"] for row in episodes}):
        rows = [row for row in episodes if row["task_index"] == index]
        successes = sum(row["success"] for row in rows)
        low, high = wilson_interval(successes, len(rows))
        table.add_row(
            str(index),
            f"{successes}/{len(rows)}",
            f"{low:.0%} to {high:.0%}",
            f"{statistics.median(row['steps'] for row in rows):.0f}",
        )
    return table

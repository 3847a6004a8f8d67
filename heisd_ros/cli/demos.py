"""`heisd demos`: demonstrations from the scripted expert."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from heisd_ros.cli.refusals import refusing
from heisd_ros.cli.workers import cores, end_with, hold_to
from heisd_ros.errors import HeisdError
from heisd_ros.sim.suites import SCRIPTED

if TYPE_CHECKING:
    import numpy as np

    from heisd_ros.sim.scene import LiberoScene

app = typer.Typer(add_completion=False)

_ROUND = 10
_REFRESH_SEC = 0.5


@app.command()
def demos(
    folder: Annotated[Path, typer.Argument(help="Where the HDF5 files go; a run is resumed.")],
    suite: Annotated[str, typer.Option(help=f"One of {', '.join(SCRIPTED)}.")] = ("libero_spatial"),
    episodes: Annotated[int, typer.Option(help="Episodes of each task.", min=1)] = 50,
    first_seed: Annotated[
        int,
        typer.Option(
            help="Seed of a file's first episode; it decides the start. A policy that leads needs "
            "others than those it was trained from.",
            min=0,
        ),
    ] = 0,
    stride: Annotated[int, typer.Option(help="Record every n-th control step.", min=1)] = 2,
    lead: Annotated[
        str, typer.Option(help="Checkpoint that begins each episode; the expert labels it.")
    ] = "",
    until_stall: Annotated[
        bool,
        typer.Option(
            "--until-stall",
            help="--lead leads until it stalls, with its own actions recorded; the expert takes "
            "over as a person would, and its steps are marked so.",
        ),
    ] = False,
    task: Annotated[list[int] | None, typer.Option(help="Only these tasks.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0: one a core.", min=0)] = 0,
) -> None:
    """Record demonstrations of a suite's scripted tasks in LIBERO's file layout."""
    if suite not in SCRIPTED:
        accepted = ", ".join(SCRIPTED)
        raise typer.BadParameter(f"{suite!r} has no scripted tasks; accepted: {accepted}")
    if until_stall and not lead:
        raise typer.BadParameter("--until-stall says how long --lead leads: name a checkpoint")
    # In rounds over the tasks, so that a run that is cut short leaves balanced data.
    rounds = [*range(_ROUND, episodes, _ROUND), episodes]
    collect = partial(_collect, suite, folder, first_seed, stride, lead, until_stall=until_stall)
    with refusing(HeisdError):
        record_rounds(collect, list(dict.fromkeys(task or SCRIPTED[suite])), rounds, suite, workers)


Collector = Callable[[int, int, Callable[[int], None]], Any]
"""Records a task until it has so many episodes; calls back with how many it has, at first too."""


def record_rounds(
    collect: Collector, tasks: Sequence[int], rounds: Sequence[int], label: str, workers: int = 0
) -> None:
    """Lets all tasks reach one number of episodes after another, under one bar of episodes.

    Args:
        collect: A function at module level, since workers are fresh processes.
        tasks: The tasks.
        rounds: Numbers of episodes that every task reaches before any goes on, increasing.
        label: What the progress bar says.
        workers: Processes, each held to one thread; 0: one a core.
    """
    hold_to(1)
    context = multiprocessing.get_context("spawn")
    # Without a lock, since a worker may be killed with it: each number has one writer at a time.
    recorded = context.Array("q", len(tasks), lock=False)
    columns = (
        TextColumn("{task.description}, episodes"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task(label, total=rounds[-1] * len(tasks))
        for upto in rounds:
            with ProcessPoolExecutor(
                workers or cores(), context, initializer=_begin, initargs=(recorded, os.getpid())
            ) as pool:
                running = {
                    pool.submit(_record, collect, slot, index, upto)
                    for slot, index in enumerate(tasks)
                }
                try:
                    while running:
                        done, running = wait(running, _REFRESH_SEC, FIRST_COMPLETED)
                        had = sum(min(count, rounds[-1]) for count in recorded)
                        progress.update(bar, completed=had)
                        for job in done:
                            job.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise


_recorded: Any = None
"""In a worker: the episodes that each task has."""


def _begin(recorded: Any, parent: int) -> None:
    global _recorded
    _recorded = recorded
    end_with(parent)


def _record(collect: Collector, slot: int, task: int, episodes: int) -> None:
    def note(count: int) -> None:
        _recorded[slot] = count

    collect(task, episodes, note)


def _collect(
    suite: str,
    folder: Path,
    first_seed: int,
    stride: int,
    lead: str,
    task: int,
    episodes: int,
    on_episode: Callable[[int], None],
    until_stall: bool = False,
) -> None:
    from heisd_ros.sim.demonstrations import collect_task

    policy = _lead_policy(lead) if lead else None
    collect_task(
        suite, task, folder, episodes, first_seed=first_seed, stride=stride, lead=policy,
        until_stall=until_stall, on_episode=on_episode,
    )  # fmt: skip


def _lead_policy(checkpoint: str) -> Callable[[LiberoScene], np.ndarray]:
    from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
    from heisd_ros.evaluation.rollout import SceneInputs, observe
    from heisd_ros.families.checkpoint import load_checkpoint

    vla = load_checkpoint(checkpoint)
    decoder, inputs = AutoregressiveDecoder(vla), SceneInputs.of(vla.spec)
    return lambda scene: decoder.infer(observe(scene, inputs=inputs)).action

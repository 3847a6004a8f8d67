"""`heisd demos`: demonstrations from the scripted expert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heisd_ros.cli.workers import run_jobs

app = typer.Typer(add_completion=False)

PICK_AND_PLACE = {
    "libero_spatial": tuple(range(10)),
    "libero_object": tuple(range(10)),
    "libero_goal": (1, 2, 4, 6, 8),
}
"""The tasks that the expert knows; of libero_goal, those that only put something somewhere."""
_ROUND = 10


@app.command()
def demos(
    folder: Annotated[Path, typer.Argument(help="Where the HDF5 files go; a run is resumed.")],
    suite: Annotated[str, typer.Option(help=f"One of {', '.join(PICK_AND_PLACE)}.")] = (
        "libero_spatial"
    ),
    episodes: Annotated[int, typer.Option(help="Episodes of each task.", min=1)] = 50,
    stride: Annotated[int, typer.Option(help="Record every n-th control step.", min=1)] = 2,
    workers: Annotated[int, typer.Option(help="Processes; 0: one a core.", min=0)] = 0,
) -> None:
    """Record demonstrations of a suite's pick-and-place tasks in LIBERO's file layout."""
    if suite not in PICK_AND_PLACE:
        accepted = ", ".join(PICK_AND_PLACE)
        raise typer.BadParameter(f"{suite!r} has no scripted tasks; accepted: {accepted}")
    # In rounds over the tasks, so that a run that is cut short leaves balanced data.
    rounds = [*range(_ROUND, episodes, _ROUND), episodes]
    for upto in rounds:
        jobs = [(suite, task, folder, upto, stride) for task in PICK_AND_PLACE[suite]]
        for _ in run_jobs(_collect, jobs, f"{suite}: {upto} of {episodes} a task", workers):
            pass


def _collect(suite: str, task: int, folder: Path, episodes: int, stride: int) -> Path:
    from heisd_ros.sim.demonstrations import collect_task

    return collect_task(suite, task, folder, episodes, stride=stride)

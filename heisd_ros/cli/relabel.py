"""`heisd relabel`: relabels recorded demonstrations with the current expert and its reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heisd_ros.cli.refusals import refusing
from heisd_ros.errors import HeisdError

app = typer.Typer(add_completion=False)


@app.command()
@refusing(HeisdError)
def relabel(
    folder: Annotated[Path, typer.Argument(help="Folder of *_demo.hdf5 files of `heisd demos`.")],
    destination: Annotated[Path, typer.Argument(help="Folder of the copies.")],
) -> None:
    """Ask the scripted expert again in every recorded state; pictures stay.

    The copies hold its actions, and what a reasoning model is to say at each step.
    """
    from heisd_ros.cli.workers import run_jobs
    from heisd_ros.sim.relabelling import relabel
    from heisd_ros.training.dataset import demonstration_files

    paths = demonstration_files([folder])
    destination.mkdir(parents=True, exist_ok=True)
    if destination.samefile(folder):
        raise typer.BadParameter(f"{destination} is the folder of the recordings itself")
    jobs = [(path, destination / path.name) for path in paths]
    for number, done in enumerate(run_jobs(relabel, jobs, "files")):
        typer.echo(
            f"{number + 1} of {len(jobs)} files: {done.frames} frames, in {done.contradicted} "
            "the recording was believed about what is held"
        )

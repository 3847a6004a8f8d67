"""`heisd train vla`: the model that ships."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def train() -> None:
    """Train the models that ship with the package."""


@app.command()
def vla(
    demonstrations: Annotated[Path, typer.Argument(help="Folder of *_demo.hdf5 files.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the run; a run is resumed.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps.", min=1)] = 4000,
    batch_size: Annotated[int, typer.Option(help="Samples a step.", min=1)] = 64,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.", min=0)] = 1e-3,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
) -> None:
    """Train a small VLA of OpenVLA's architecture by imitation, on the GPU where there is one."""
    from heisd_ros.sim.scene import CONTROL_RATE_HZ
    from heisd_ros.training.dataset import load_samples
    from heisd_ros.training.loss_curve import draw_losses
    from heisd_ros.training.motion import bounds_of
    from heisd_ros.training.vla import Trainer, TrainingSettings

    samples = load_samples(demonstrations, ("agentview", "wrist"))
    typer.echo(f"{len(samples)} samples of {len(samples.instructions)} instructions")
    settings = TrainingSettings(
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed
    )
    trainer = Trainer(samples, folder, settings)
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[losses]}"))
    with Progress(*columns) as progress:
        bar = progress.add_task("training", total=steps, completed=trainer.step, losses="")

        def show(step: int, action_loss: float, landmark_loss: float) -> None:
            losses = f"action {action_loss:.3f} landmarks {landmark_loss:.3f}"
            progress.update(bar, completed=step, losses=losses)

        trainer.run(show)
    # What the node's kinematic metric measures a motion against travels with the checkpoint.
    bounds = bounds_of(demonstrations, CONTROL_RATE_HZ)
    if bounds is None:
        typer.echo("no joint velocities in the demonstrations: no metric_bounds.json is written")
    else:
        (folder / "checkpoint" / "metric_bounds.json").write_text(bounds.to_json() + "\n")
    draw_losses(trainer.losses, folder / "losses.png")
    shutil.copy(folder / "losses.png", folder / "checkpoint" / "losses.png")
    typer.echo(f"checkpoint: {folder / 'checkpoint'}; loss curve: {folder / 'losses.png'}")

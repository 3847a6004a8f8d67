"""`heisd train`: the models that ship."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn

from heisd_ros.cli.db_jobs import open_demonstrations
from heisd_ros.cli.model_options import ModelOption, ProtocolOption, SuiteOption, UnnormKeyOption
from heisd_ros.cli.reading import Demonstrations, Features, Only, Params, Urdf, say_dropped
from heisd_ros.cli.refusals import refusing
from heisd_ros.errors import HeisdError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def train() -> None:
    """Train the models that ship with the package."""


@app.command()
def vla(
    demonstrations: Demonstrations,
    folder: Annotated[Path, typer.Argument(help="Folder of the run; a run is resumed.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps.", min=1)] = 4000,
    batch_size: Annotated[int, typer.Option(help="Samples a step.", min=1)] = 64,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.", min=0)] = 1e-3,
    soft_bins: Annotated[
        float, typer.Option(help="Deviation of the soft targets, bins; less is sharper.", min=0.1)
    ] = 2.0,
    start_from: Annotated[
        str,
        typer.Option(
            "--start-from",
            "--start",
            help="Checkpoint whose weights, tokens and action scale to start from.",
        ),
    ] = "",
    layers: Annotated[
        int,
        typer.Option(help="Decoder layers to have instead of --start-from's; 0: as many.", min=0),
    ] = 0,
    family: Annotated[
        str,
        typer.Option(
            help="openvla: answers are actions; ecot: with the reasoning that `heisd relabel` "
            "wrote; pi0fast: chunks of 10 in FAST tokens; empty: as --start-from, or openvla."
        ),
    ] = "",
    text_weight: Annotated[
        float, typer.Option(help="Weight of the loss on text, relative to actions.", min=0.0)
    ] = 1.0,
    threads: Annotated[int, typer.Option(help="Threads of PyTorch; 0: one a core.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.", min=0)] = 0,
    person_weight: Annotated[
        float, typer.Option(help="Weight of a step in which a person had the arm.", min=0.0)
    ] = 1.0,
    policy_weight: Annotated[
        float,
        typer.Option(
            help="Weight of a policy's step, where the recording says who had the arm; 0: DAgger.",
            min=0.0,
        ),
    ] = 1.0,
    params: Params = None,
    features: Features = None,
    urdf: Urdf = None,
    only: Only = None,
) -> None:
    """Train a small VLA by imitation, on the GPU where there is one."""
    import torch

    from heisd_ros.families.checkpoint import family_of, load_checkpoint, preparation
    from heisd_ros.sim.scene import CONTROL_RATE_HZ
    from heisd_ros.training.dataset import load_samples
    from heisd_ros.training.loss_curve import draw_losses
    from heisd_ros.training.metric_bounds import bounds_of
    from heisd_ros.training.train_vla import Trainer, TrainingSettings

    if layers and not start_from:
        raise typer.BadParameter("--layers changes a trained model: name it with --start-from")
    if threads:
        torch.set_num_threads(threads)
    settings = TrainingSettings(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        soft_bins=soft_bins,
        text_weight=text_weight,
        seed=seed,
    )
    with refusing():
        start = load_checkpoint(start_from) if start_from else None
        family = family or (family_of(start_from) if start_from else "openvla")
        inputs = preparation(family).inputs(start)
        rate_hz = inputs.rate_hz or CONTROL_RATE_HZ
        sources = open_demonstrations(demonstrations, params, features, urdf, rate_hz, only or ())
        samples = load_samples(
            sources,
            inputs.views,
            person_weight,
            policy_weight,
            rate_hz,
            inputs.resize,
            horizon=inputs.horizon,
            reasoning=inputs.reasoning,
        )
        say_dropped(sources)
        typer.echo(f"{len(samples)} samples of {len(samples.instructions)} instructions")
        trainer = Trainer(samples, folder, settings, start, family, layers)
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[losses]}"))
    with Progress(*columns) as progress:
        bar = progress.add_task("training", total=steps, completed=trainer.step, losses="")

        def show(step: int, action: float, landmarks: float, text: float) -> None:
            losses = f"action {action:.3f} landmarks {landmarks:.3f} text {text:.3f}"
            progress.update(bar, completed=step, losses=losses)

        trainer.run(show)
    # What the node's kinematic metric measures a motion against travels with the checkpoint.
    bounds = bounds_of(sources, rate_hz)
    if bounds is None:
        typer.echo("no joint velocities in the demonstrations: no metric_bounds.json is written")
    else:
        (folder / "checkpoint" / "metric_bounds.json").write_text(bounds.to_json() + "\n")
    draw_losses(trainer.losses, folder / "losses.png")
    shutil.copy(folder / "losses.png", folder / "checkpoint" / "losses.png")
    typer.echo(f"checkpoint: {folder / 'checkpoint'}; loss curve: {folder / 'losses.png'}")


@app.command()
@refusing(HeisdError)
def drafter(
    demonstrations: Demonstrations,
    folder: Annotated[Path, typer.Argument(help="Folder of the run; a run is resumed.")],
    model: ModelOption = "",
    steps: Annotated[int, typer.Option(help="Optimiser steps.", min=1)] = 4000,
    batch_size: Annotated[int, typer.Option(help="Frames a step.", min=1)] = 64,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.", min=0)] = 2e-3,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.", min=0)] = 0,
    suite: SuiteOption = "libero_spatial",
    protocol: ProtocolOption = "",
    unnorm_key: UnnormKeyOption = "",
    params: Params = None,
    features: Features = None,
    urdf: Urdf = None,
) -> None:
    """Train a drafter for a model of any family on its own tokens, on the GPU if there is one."""
    from heisd_ros.cli.db_jobs import load_model, open_demonstrations, read_as
    from heisd_ros.training.distillation import teacher_frames
    from heisd_ros.training.train_drafter import DistillationSettings, DrafterTrainer

    settings = DistillationSettings(
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed
    )
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[note]}"))
    teacher, identity, rate_hz = load_model(model, suite, protocol, unnorm_key, "float32")
    sources = open_demonstrations(demonstrations, params, features, urdf, rate_hz)
    with Progress(*columns) as progress:
        reading = progress.add_task("running the VLA", total=None, note="")
        frames = teacher_frames(
            sources,
            teacher,
            identity,
            rate_hz,
            folder / "frames",
            lambda done, of: progress.update(
                reading, completed=done, total=of, note=f"{done} of {of} episodes"
            ),
            read_as(model, protocol, "float32", params, features, urdf),
        )
        say_dropped(sources)
        trainer = DrafterTrainer(frames, teacher, identity, folder, settings)
        training = progress.add_task("training", total=steps, completed=trainer.step, note="")

        def show(step: int, feature: float, token: float, greedy: float) -> None:
            note = f"feature {feature:.3f} token {token:.3f} greedy {greedy:.3f}"
            progress.update(training, completed=step, note=note)

        trainer.run(show)
    typer.echo(f"drafter: {folder / 'drafter'}, {len(frames)} frames")
    measured = trainer.measure()
    chain, tree = measured["chain"], measured["tree"]
    typer.echo(
        f"on {chain.frames} held-out frames the VLA accepts {chain.length:.2f} of {chain.depth} "
        f"drafted tokens (greedy chain), {tree.length:.2f} (tree of {tree.nodes} nodes, "
        f"top-k {tree.top_k})"
    )

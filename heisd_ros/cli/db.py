"""`heisd db`: the retrieval database of a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from heisd_ros.cli.model_options import DtypeOption, ProtocolOption, UnnormKeyOption

if TYPE_CHECKING:
    from heisd_ros.retrieval.manifest import Manifest

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def db() -> None:
    """Build a database of demonstrated frames, and look at one."""


@app.command()
def build(
    demonstrations: Annotated[list[Path], typer.Argument(help="Folders of *_demo.hdf5 files.")],
    folder: Annotated[Path, typer.Argument(help="Where it goes; one that is there is replaced.")],
    model: Annotated[str, typer.Option(help="Checkpoint folder; empty: the shipped one.")] = "",
    suite: Annotated[
        str, typer.Option(help="LIBERO suite, by which a protocol chooses the statistics.")
    ] = "libero_spatial",
    protocol: ProtocolOption = "",
    unnorm_key: UnnormKeyOption = "",
    dtype: DtypeOption = "float32",
    states: Annotated[
        str, typer.Option(help="Initial states to take, for instance 0-9,20; of 0 to 39.")
    ] = "0-29",
    every: Annotated[
        int, typer.Option(help="Take every n-th recorded frame: a smaller database.", min=1)
    ] = 1,
    boundary_percentile: Annotated[
        float,
        typer.Option(help="Percent of the motion that counts as slow or curved.", min=0, max=100),
    ] = 25.0,
    batch_size: Annotated[int, typer.Option(help="Frames at a time.", min=1)] = 64,
) -> None:
    """Run a model over demonstrations and keep its features, its own tokens and what was done."""
    import torch

    from heisd_ros.errors import HeisdError
    from heisd_ros.models import shipped_model
    from heisd_ros.sim.protocol import load_for_suite, load_protocol
    from heisd_ros.sim.scene import CONTROL_RATE_HZ
    from heisd_ros.training.database import build_database
    from heisd_ros.vla.checkpoint import fingerprint

    chosen = parse_states(states)
    checkpoint = model or shipped_model()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        vla = load_for_suite(
            checkpoint,
            suite,
            load_protocol(protocol, checkpoint),
            device=device,
            dtype=dtype,
            unnorm_key=unnorm_key,
        )
        with Progress() as progress:
            bar = progress.add_task("frames", total=None)

            def show(done: int, total: int) -> None:
                progress.update(bar, completed=done, total=total)

            manifest = build_database(
                vla,
                fingerprint(checkpoint),
                demonstrations,
                folder,
                CONTROL_RATE_HZ,
                states=chosen,
                every=every,
                boundary_percentile=boundary_percentile,
                batch_size=batch_size,
                on_frames=show,
            )
    except HeisdError as error:
        raise typer.BadParameter(str(error)) from error
    _print(folder, manifest)


@app.command()
def info(
    folder: Annotated[Path, typer.Argument(help="A database.")],
    model: Annotated[str, typer.Option(help="Checkpoint folder that it has to fit.")] = "",
) -> None:
    """Say what a database holds, after checking every file of it."""
    from heisd_ros.errors import HeisdError
    from heisd_ros.retrieval.database import Database
    from heisd_ros.retrieval.manifest import Manifest
    from heisd_ros.vla.checkpoint import fingerprint

    try:
        wanted = fingerprint(model) if model else Manifest.read(folder).model_fingerprint
        manifest = Database.open(folder, wanted).manifest
    except HeisdError as error:
        raise typer.BadParameter(str(error)) from error
    _print(folder, manifest)


def parse_states(text: str) -> set[int]:
    """`0-9,20` to numbers.

    Raises:
        typer.BadParameter: the text is malformed.
    """
    states: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise typer.BadParameter(f"states {text!r}; numbers and ranges such as 0-9,20")
        states |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return states


def _print(folder: Path, manifest: Manifest) -> None:
    console = Console()
    table = Table("instruction", "episodes", "frames", "search")
    for shard in manifest.shards:
        search = "graph" if shard.graph else "exact"
        table.add_row(shard.instruction, str(shard.episodes), str(shard.entries), search)
    console.print(table)
    features, fidelity = manifest.features, manifest.fidelity
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    recall = "not measured: no task has a second episode"
    if fidelity.recall is not None and fidelity.similarity_error is not None:
        recall = (
            f"recall@1 {fidelity.recall:.4f}, similarity within {fidelity.similarity_error:.1g} "
            f"in 99%, on {fidelity.queries} held-out frames"
        )
    boundaries = (f"{kind} {bounds.boundary:.3f}" for kind, bounds in manifest.bounds.items())
    for name, text in (
        ("database", f"{manifest.database_id[:12]}, format {manifest.format}"),
        ("model", f"{manifest.model_fingerprint[:12]}, statistics {manifest.statistics_key!r}"),
        ("robot", f"{manifest.robot}, {manifest.control_rate_hz:g} Hz"),
        ("views", ", ".join(features.views)),
        ("keys", f"{features.size} numbers, candidates by {features.kept}; {recall}"),
        ("boundary", ", ".join(boundaries) or "unknown: no joint velocities"),
        ("initial states", str(manifest.provenance.get("states", "unknown"))),
        ("frames", f"{manifest.entries} in {len(manifest.shards)} shards, {size / 1e6:.1f} MB"),
        ("created", manifest.created),
        ("calibration", _calibration(folder, manifest)),
    ):
        console.print(f"{name:>14}  {text}", highlight=False, soft_wrap=True)


def _calibration(folder: Path, manifest: Manifest) -> str:
    """What skipping with this database has been calibrated to, or why it is not."""
    from heisd_ros.decoding.calibration import Calibration
    from heisd_ros.errors import CalibrationError

    try:
        calibration = Calibration.load(folder, manifest.database_id, manifest.model_fingerprint)
    except CalibrationError as error:
        return str(error)
    return calibration.guarantee

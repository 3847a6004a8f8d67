"""`heisd db`: the retrieval database of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from heisd_ros.cli.db_jobs import (
    BuildJob,
    load_model,
    numbered_record,
    open_demonstrations,
    read_as,
)
from heisd_ros.cli.model_options import (
    DtypeOption,
    ModelOption,
    ProtocolOption,
    SuiteOption,
    UnnormKeyOption,
)
from heisd_ros.cli.ray_jobs import ray_results
from heisd_ros.cli.reading import Demonstrations, Features, Only, Params, Urdf, say_dropped
from heisd_ros.cli.refusals import refusing
from heisd_ros.files.ranges import parse_ranges

if TYPE_CHECKING:
    from heisd_ros.retrieval.manifest import Manifest
    from heisd_ros.training.build_journal import Record

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def db() -> None:
    """Build a database of demonstrated frames, change one, and look at one."""


BatchSize = Annotated[int, typer.Option(help="Frames at a time.", min=1)]


@app.command()
@refusing()
def build(
    demonstrations: Demonstrations,
    folder: Annotated[Path, typer.Argument(help="Where it goes; one that is there is replaced.")],
    model: ModelOption = "",
    suite: SuiteOption = "libero_spatial",
    protocol: ProtocolOption = "",
    unnorm_key: UnnormKeyOption = "",
    dtype: DtypeOption = "float32",
    params: Params = None,
    features: Features = None,
    urdf: Urdf = None,
    only: Only = None,
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
    batch_size: BatchSize = 64,
    ray: Annotated[
        str,
        typer.Option(
            help="Ray cluster that runs the model, an episode a core: HOST:PORT, or auto for the "
            "one of this machine; empty: here. Model, demonstrations and package are needed on "
            "each machine."
        ),
    ] = "",
) -> None:
    """Run a model over demonstrations and keep its features, its own tokens and what was done.

    Interrupted or killed, it resumes when it is run again.
    """
    from heisd_ros.models import find_model
    from heisd_ros.training.build_database import build_database

    chosen = parse_states(states)
    job = BuildJob(
        model=str(find_model(model).absolute()),
        suite=suite,
        protocol=protocol,
        unnorm_key=unnorm_key,
        dtype=dtype,
        demonstrations=tuple(path.absolute() for path in demonstrations),
        params=params,
        features=features,
        urdf=urdf,
        states=frozenset(chosen),
        every=every,
        batch_size=batch_size,
        only=tuple(only or ()),
    )

    def there(numbers: list[int]) -> Iterator[tuple[int, Record]]:
        return ray_results(ray, numbered_record, [(job, number) for number in numbers])

    with Progress() as progress:
        vla, identity, rate_hz = load_model(job.model, suite, protocol, unnorm_key, dtype)
        sources = open_demonstrations(demonstrations, params, features, urdf, rate_hz, only or ())
        manifest = build_database(
            vla,
            identity,
            sources,
            folder,
            rate_hz,
            states=chosen,
            every=every,
            boundary_percentile=boundary_percentile,
            batch_size=batch_size,
            on_frames=_bar(progress),
            elsewhere=there if ray else None,
            read_as=read_as(job.model, protocol, dtype, params, features, urdf),
        )
    say_dropped(sources)
    _print(folder, manifest)


@app.command()
@refusing()
def add(
    folder: Annotated[Path, typer.Argument(help="A database.")],
    demonstrations: Demonstrations,
    model: ModelOption = "",
    suite: SuiteOption = "libero_spatial",
    protocol: ProtocolOption = "",
    dtype: DtypeOption = "float32",
    params: Params = None,
    features: Features = None,
    urdf: Urdf = None,
    only: Only = None,
    batch_size: BatchSize = 64,
) -> None:
    """Add recordings; the model runs over the new ones only."""
    from heisd_ros.retrieval.manifest import Manifest
    from heisd_ros.training.editing import add_to_database

    with Progress() as progress:
        old = Manifest.read(folder)
        vla, identity, _ = load_model(model, suite, protocol, old.statistics_key, dtype)
        sources = open_demonstrations(
            demonstrations, params, features, urdf, old.control_rate_hz, only or ()
        )
        manifest = add_to_database(
            folder,
            vla,
            identity,
            sources,
            batch_size=batch_size,
            on_frames=_bar(progress),
            read_as=read_as(model, protocol, dtype, params, features, urdf),
        )
    say_dropped(sources)
    _print(folder, manifest)


@app.command()
@refusing()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Databases; the boundary is the first's.")],
    target: Annotated[Path, typer.Argument(help="Where the new one goes.")],
) -> None:
    """Make one database of several of the same model and robot."""
    from heisd_ros.training.editing import merge_databases

    manifest = merge_databases(folders, target)
    _print(target, manifest)


@app.command()
@refusing()
def prune(
    folder: Annotated[Path, typer.Argument(help="A database.")],
    target: Annotated[
        Path | None,
        typer.Argument(help="Where the new one goes; it replaces the old one if empty."),
    ] = None,
    instruction: Annotated[
        list[str] | None, typer.Option(help="Leave out this task; may be repeated.")
    ] = None,
    episodes: Annotated[
        str, typer.Option(help="Leave out these episodes, for instance 3,7-9.")
    ] = "",
    every: Annotated[int, typer.Option(help="Keep every n-th frame.", min=1)] = 1,
) -> None:
    """Leave out tasks, episodes or frames."""
    from heisd_ros.training.editing import Pruning, prune_database

    gone = parse_states(episodes) if episodes else set()
    pruning = Pruning(tuple(instruction or ()), gone, every)
    manifest = prune_database(folder, pruning, target or folder)
    _print(target or folder, manifest)


@app.command()
@refusing()
def convert(folder: Annotated[Path, typer.Argument(help="A database of format 1.")]) -> None:
    """Bring a database of the format before to this version's; its calibration stays in force."""
    from heisd_ros.retrieval.convert import convert_database

    manifest = convert_database(folder)
    _print(folder, manifest)


@app.command()
@refusing()
def verify(
    folder: Annotated[Path, typer.Argument(help="A database.")],
    model: Annotated[str, typer.Option(help="Checkpoint folder that it has to fit.")] = "",
) -> None:
    """Check a database from end to end: files, order, and that its frames find themselves."""
    from heisd_ros.training.editing import verify_database
    from heisd_ros.vla.checkpoint_files import fingerprint

    for line in verify_database(folder, fingerprint(model) if model else None):
        typer.echo(line)
    typer.echo(f"{folder}: good")


def _bar(progress: Progress) -> Callable[[int, int], None]:
    """Shows frames done and the time left."""
    bar = progress.add_task("frames", total=None)
    return lambda done, total: progress.update(bar, completed=done, total=total)


@app.command()
@refusing()
def info(
    folder: Annotated[Path, typer.Argument(help="A database.")],
    model: Annotated[str, typer.Option(help="Checkpoint folder that it has to fit.")] = "",
) -> None:
    """Say what a database holds, after checking every file of it."""
    from heisd_ros.retrieval.database import Database
    from heisd_ros.retrieval.manifest import Manifest
    from heisd_ros.vla.checkpoint_files import fingerprint

    wanted = fingerprint(model) if model else Manifest.read(folder).model_fingerprint
    manifest = Database.open(folder, wanted).manifest
    _print(folder, manifest)
    table = Table("recording", "episodes", "their numbers", "frames")
    for label, about in manifest.provenance.get("demonstrations", {}).items():
        numbers = about.get("numbers", "unknown")
        table.add_row(escape(label), str(about["episodes"]), numbers, str(about["frames"]))
    Console().print(table)


def parse_states(text: str) -> set[int]:
    """`0-9,20` to numbers.

    Raises:
        typer.BadParameter: the text is malformed.
    """
    try:
        return parse_ranges(text)
    except ValueError as error:
        raise typer.BadParameter(f"states {error}") from error


def _print(folder: Path, manifest: Manifest) -> None:
    console = Console()
    table = Table("instruction", "episodes", "frames", "search")
    for shard in manifest.shards:
        search = "graph" if shard.graph else "exact"
        table.add_row(escape(shard.instruction), str(shard.episodes), str(shard.entries), search)
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
        console.print(f"{name:>14}  {text}", markup=False, highlight=False, soft_wrap=True)


def _calibration(folder: Path, manifest: Manifest) -> str:
    """What skipping with this database has been calibrated to, or why it is not."""
    from heisd_ros.decoding.calibration import Calibration
    from heisd_ros.errors import CalibrationError

    try:
        calibration = Calibration.load(folder, manifest.database_id, manifest.model_fingerprint)
    except CalibrationError as error:
        return str(error)
    return calibration.guarantee

"""`heisd data`: recordings, as they would be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from heisd_ros.cli.reading import Features, Params, Urdf, reading_of

if TYPE_CHECKING:
    from heisd_ros.data.read_report import Outline
    from heisd_ros.data.source import Source

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def data() -> None:
    """Look at bags, LeRobot data sets and demonstration files."""


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A bag, a LeRobot data set, HDF5, or a folder.")],
    params: Params = None,
    features: Features = None,
    urdf: Urdf = None,
    rate_hz: Annotated[
        float, typer.Option(help="Control rate where neither YAML nor data set says one.", min=0.0)
    ] = 20.0,
    picture: Annotated[
        Path | None, typer.Option(help="PNG with pictures, joints and actions.")
    ] = None,
) -> None:
    """Show topics, rates, gaps, episodes, statistics, and what is left out and why."""
    from heisd_ros.data.open_sources import open_sources
    from heisd_ros.errors import HeisdError

    try:
        sources = open_sources([path], reading_of(params, features, urdf, rate_hz))
        for source in sources:
            _show(source)
        if picture is not None:
            from heisd_ros.data.picture import draw

            draw(sources[0], picture)
            typer.echo(f"drawn: {picture}")
    except (HeisdError, ValueError, OSError) as error:
        typer.echo(f"heisd data inspect: {error}", err=True)
        raise typer.Exit(1) from error


def _show(source: Source) -> None:
    console = Console(width=120)
    outline = source.outline()
    report = source.report
    steps = sum(episode.steps for episode in outline)
    typer.echo(
        f"{source.label}: {source.robot or 'unnamed robot'}, {source.rate_hz:g} control steps a "
        f"second, {len(outline)} episodes, {steps} steps"
    )
    if report.topics:
        table = Table("topic", "messages", "Hz", "longest gap (s)")
        for topic, seen in report.topics.items():
            gap = f"{seen.longest_gap_sec:.3f}"
            table.add_row(topic, str(seen.messages), f"{seen.rate_hz:.1f}", gap)
        console.print(table)
    marked = any(episode.outcome or episode.person_steps for episode in outline)
    if marked:
        typer.echo(_marks(outline))
    more = ("outcome", "by a person") if marked else ()
    table = Table("episode", "begins (s)", "steps", "instruction", "ended by", *more)
    for number, episode in enumerate(outline):
        begins = "" if episode.start_sec is None else f"{episode.start_sec:.1f}"
        table.add_row(
            str(number), begins, str(episode.steps), episode.instruction, episode.ended_by,
            *((episode.outcome, str(episode.person_steps)) if marked else ()),
        )  # fmt: skip
    console.print(table)
    if outline:
        console.print(_actions(source, len(outline)))
    for line in report.lines():
        typer.echo(line)


def _marks(outline: Sequence[Outline]) -> str:
    """Counts what was marked in a recording: outcomes, and takeovers by a person."""
    told = Counter(episode.outcome or "not reported" for episode in outline)
    corrected = [episode.person_steps for episode in outline if episode.person_steps]
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(told.items()))
    return (
        f"outcomes: {counts}; a person had the arm in {len(corrected)} episodes, "
        f"{sum(corrected)} steps"
    )


def _actions(source: Source, episodes: int) -> Table:
    import numpy as np

    actions = np.concatenate([source.episode(n, ()).actions for n in range(episodes)])
    table = Table("action", "x", "y", "z", "rx", "ry", "rz", "gripper")
    for name, row in (
        ("1st percentile", np.percentile(actions, 1, axis=0)),
        ("mean", actions.mean(axis=0)),
        ("99th percentile", np.percentile(actions, 99, axis=0)),
    ):
        table.add_row(name, *(f"{number:.3f}" for number in row))
    return table

"""`heisd data`: recordings, as they would be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heisd_ros.cli.reading import Features, Params, Urdf, reading_of
from heisd_ros.cli.refusals import failing

if TYPE_CHECKING:
    from heisd_ros.data.read_report import Outline
    from heisd_ros.data.source import Source

app = typer.Typer(add_completion=False, no_args_is_help=True)

RateHz = Annotated[
    float, typer.Option(help="Control rate where neither YAML nor data set says one.", min=0.0)
]


@app.callback()
def data() -> None:
    """Look at bags, LeRobot data sets and demonstration files, and export them."""


@app.command()
@failing(before="heisd data inspect: ")
def inspect(
    path: Annotated[Path, typer.Argument(help="A bag, a LeRobot data set, HDF5, or a folder.")],
    params: Params = None,
    features: Features = None,
    urdf: Urdf = None,
    rate_hz: RateHz = 20.0,
    picture: Annotated[
        Path | None, typer.Option(help="PNG with pictures, joints and actions.")
    ] = None,
) -> None:
    """Show topics, rates, gaps, episodes, statistics, and what is left out and why."""
    from heisd_ros.data.open_sources import open_sources

    sources = open_sources([path], reading_of(params, features, urdf, rate_hz))
    for source in sources:
        _show(source, params)
    if picture is not None:
        from heisd_ros.data.picture import draw

        draw(sources[0], picture)
        typer.echo(f"drawn: {picture}")


@app.command()
@failing(before="heisd data export: ")
def export(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Bags, LeRobot data sets, HDF5 files, or folders of them."),
    ],
    folder: Annotated[Path, typer.Argument(help="The data set: a folder that does not exist yet.")],
    to: Annotated[str, typer.Option(help="lerobot (version 3.0), or rlds.")] = "lerobot",
    images: Annotated[
        str,
        typer.Option(
            help="Of lerobot: av1 (the usual), h264, or png without loss; of rlds: jpeg, png."
        ),
    ] = "",
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="joint_velocities, landmarks or person; may be repeated."),
    ] = None,
    params: Params = None,
    features: Features = None,
    urdf: Urdf = None,
    rate_hz: RateHz = 20.0,
) -> None:
    """Write episodes as a data set that LeRobot or TensorFlow Datasets reads.

    Interrupted or killed, it resumes when it is run again.
    """
    from rich.progress import Progress

    from heisd_ros.data.export_run import Choices
    from heisd_ros.data.lerobot_export import export_lerobot
    from heisd_ros.data.open_sources import open_sources
    from heisd_ros.data.rlds_export import export_rlds
    from heisd_ros.files.bounded import read_text

    formats = {"lerobot": export_lerobot, "rlds": export_rlds}
    if to not in formats:
        raise ValueError(f"--to is {to!r}; accepted: {', '.join(formats)}")
    choices = Choices(images, tuple(leave_out or ()), read_text(params) if params else "")
    found = open_sources(sources, reading_of(params, features, urdf, rate_hz))
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("frames", total=None)
        done = formats[to](
            found,
            folder,
            choices,
            lambda n, all_: progress.update(bar, completed=n, total=all_),
        )
    for source in found:
        for line in source.report.lines():
            typer.echo(f"{source.label}: {line}", err=True)
    if done.stride > 1:
        typer.echo(
            f"note: a frame is every {done.stride}. control step; an action is that of one control "
            f"step, {1 / (done.fps * done.stride):g} s, and not of the {1 / done.fps:g} s to the "
            "next frame",
            err=True,
        )
    resumed = f", of which an earlier run wrote {done.resumed}" if done.resumed else ""
    typer.echo(
        f"{folder}: {done.episodes} episodes{resumed}, {done.frames} frames, {done.fps:g} a second"
    )


def _show(source: Source, params: Path | None) -> None:
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
            table.add_row(escape(topic), str(seen.messages), f"{seen.rate_hz:.1f}", gap)
        console.print(table)
    marked = any(episode.outcome or episode.person_steps for episode in outline)
    if marked:
        typer.echo(_marks(outline))
    more = ("outcome", "by a person") if marked else ()
    table = Table("episode", "begins (s)", "steps", "instruction", "ended by", *more)
    for number, episode in enumerate(outline):
        begins = "" if episode.start_sec is None else f"{episode.start_sec:.1f}"
        table.add_row(
            str(number), begins, str(episode.steps), escape(episode.instruction), episode.ended_by,
            *((episode.outcome, str(episode.person_steps)) if marked else ()),
        )  # fmt: skip
    console.print(table)
    if outline:
        console.print(_actions(source, len(outline)))
    for line in [*_noted(report.notes, params), *report.lines()]:
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


def _noted(notes: dict[str, str], params: Path | None) -> list[str]:
    """Shows what the recorder noted; of texts of several lines only how many."""
    from heisd_ros.data.recording_notes import PARAMETERS_NOTE
    from heisd_ros.files.bounded import read_text, shown

    lines = []
    for name, text in notes.items():
        several = text.strip().count("\n")
        called = name if name.isprintable() else shown(name)
        line = f"recorded: {called}: {f'{several + 1} lines' if several else shown(text.strip())}"
        if name == PARAMETERS_NOTE and params is not None and read_text(params) != text:
            line += f", other than {params}"
        lines.append(line)
    return lines


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

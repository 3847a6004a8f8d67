"""`heisd replay`: replays a recording through the node's inputs and decoding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from heisd_ros.robot.parameters import VlaNodeParameters

app = typer.Typer(add_completion=False)

WITHIN, MOVED, BAD_INPUT = 0, 1, 2
PAGE = "report.html"


@app.command()
def replay(
    bag: Annotated[Path, typer.Argument(help="The recording: a rosbag2 folder, or a file of it.")],
    params: Annotated[
        Path | None, typer.Option(help="Parameter file of the node, such as config/robots/*.yaml.")
    ] = None,
    model: Annotated[str, typer.Option(help="Checkpoint folder; empty: as in the file.")] = "",
    db: Annotated[
        str, typer.Option(help="Retrieval database; empty: the folder `database` of the model.")
    ] = "",
    drafter: Annotated[
        str, typer.Option(help="Drafter; empty: the folder `drafter` of the model.")
    ] = "",
    modes: Annotated[
        str,
        typer.Option(
            help="Decoding modes (config/modes) or YAML files, with commas between; ar "
            "is always among them."
        ),
    ] = "ar,heisd",
    instruction: Annotated[
        str, typer.Option(help="What the arm is told; empty: what the bag says.")
    ] = "",
    remap: Annotated[
        list[str] | None,
        typer.Option(help="Topic of an input: ~/input/image:=/camera/image_raw, for instance."),
    ] = None,
    report: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("out/replay"),
    baseline: Annotated[
        Path | None, typer.Option(help="replay.json of an earlier replay, to compare with.")
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(help="By how much a figure may move: tokens=0.05; see docs/replay.md."),
    ] = None,
) -> None:
    """Replay a recording through decoding modes, on the clock of the bag: the same bytes each time.

    Writes replay.json, latency.json and report.html. Exit code: 0; with --baseline 1 where a figure
    moved by more than its tolerance; 2 where an input is bad. What could be read is reported.
    """
    from heisd_ros.benchmark.machine import processor
    from heisd_ros.errors import HeisdError
    from heisd_ros.replay.baseline import check_comparable, compare, read_baseline, read_tolerances
    from heisd_ros.replay.describe import describe
    from heisd_ros.replay.replay_page import write_report
    from heisd_ros.replay.run import REFERENCE, replay_bag
    from heisd_ros.replay.summary import (
        LATENCIES,
        RESULTS,
        rows_of,
        summarise,
        summarise_latency,
        write,
    )
    from heisd_ros.replay.topics import read_remaps

    names = [REFERENCE, *(name.strip() for name in modes.split(",") if name.strip())]
    try:
        tolerances, remaps = read_tolerances(tolerance or ()), read_remaps(remap or ())
        settings = _parameters(params, model, db, drafter)
        described = describe(bag, settings, list(dict.fromkeys(names)))
        earlier = None if baseline is None else read_baseline(baseline)
        lines = [] if earlier is None else check_comparable(described, earlier)
        replayed = replay_bag(bag, settings, names, remaps, instruction.strip() or None)
    except (HeisdError, ValueError) as error:
        _complain(str(error))
        raise typer.Exit(BAD_INPUT) from error
    results = summarise(replayed, described)
    latencies = summarise_latency(replayed, described, processor())
    write(report / RESULTS, results)
    write(report / LATENCIES, latencies)
    moved = [] if earlier is None else compare(results, earlier, tolerances)
    bad = [f"not read to its end: {replayed.problem}"] if replayed.problem else []
    if not any(mode["steps"] for mode in results["modes"].values()):
        bad.append(f"no step was taken; holds: {results['modes'][REFERENCE]['holds']}")
    lines += [*replayed.remarks, *bad, *map(str, moved)]
    write_report(report / PAGE, results, latencies, rows_of(replayed), replayed.frames, lines)
    Console().print(_table(results, latencies))
    for line in lines:
        _complain(line)
    code = BAD_INPUT if bad else MOVED if moved else WITHIN
    if earlier is not None and code == WITHIN:
        typer.echo("within tolerance of the baseline")
    typer.echo(f"report: {report / PAGE}")
    raise typer.Exit(code)


def _complain(line: str) -> None:
    typer.echo(line, err=True)


def _parameters(params: Path | None, model: str, db: str, drafter: str) -> VlaNodeParameters:
    from heisd_ros.robot.declare import with_values
    from heisd_ros.robot.parameters import VlaNodeParameters
    from heisd_ros.robot.robot_file import read_robot_file

    settings = VlaNodeParameters() if params is None else read_robot_file(params)
    given = {"model.path": model, "decoding.database": db, "decoding.drafter": drafter}
    return with_values(settings, {name: value for name, value in given.items() if value})


def _table(results: Mapping[str, Any], latencies: Mapping[str, Any]) -> Table:
    table = Table(
        "mode",
        "steps",
        "off ar (mean x, max x)",
        "accepted",
        "skipped",
        "wrong of judged",
        "not judged",
        "p50 ms",
        "p95",
    )
    for name, mode in results["modes"].items():
        if not mode["steps"]:
            continue
        length, times = mode["acceptance_length"], latencies["modes"][name]["step_ms"]
        off = mode["deviation"]["ar"]["axes"]["x"]
        table.add_row(
            name,
            str(mode["steps"]),
            f"{off['mean']:.3f}, {off['max']:.3f}",
            "" if length is None else f"{length:.2f}",
            f"{mode['skip_rate']:.0%}",
            f"{mode['skips']['wrong']}/{mode['skips']['judged']}",
            str(mode["skips"]["not judged"]),
            f"{times['p50']:.1f}",
            f"{times['p95']:.1f}",
        )
    return table

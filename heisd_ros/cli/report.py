"""`heisd report`: a page about what `heisd eval` measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heisd_ros.cli.refusals import refusing

app = typer.Typer(add_completion=False)


@app.command()
@refusing(ValueError)
def report(
    results: Annotated[list[Path], typer.Argument(help="Results files of `heisd eval`.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    plot: Annotated[
        Path | None,
        typer.Option(help="PNG or SVG file for the plot of success against speedup of one file."),
    ] = None,
    base: Annotated[str, typer.Option(help="Mode that others are compared with.")] = "ar",
    ablation: Annotated[
        str,
        typer.Option(
            help="Modes of the ablation, with commas between, in the order in which parts are "
            "added; empty: those named ablation..., then heisd."
        ),
    ] = "",
) -> None:
    """Write one self-contained HTML page with tables and plots of one or several evaluations."""
    from heisd_ros.evaluation.evaluation_page import save_plot, write_report
    from heisd_ros.evaluation.results import read_results

    names = [
        path.name if len({p.name for p in results}) == len(results) else str(path)
        for path in results
    ]
    ladder = [name.strip() for name in ablation.split(",") if name.strip()]
    data = {name: read_results(path) for name, path in zip(names, results, strict=True)}
    write_report(data, out, base, ladder)
    if plot is not None:
        save_plot(data[names[0]], plot, base)
    typer.echo(f"report: {out}")

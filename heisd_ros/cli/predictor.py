"""`heisd predictor`: fits what predicts that a draft passes in one pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(add_completion=False)


@app.command()
def predictor(
    results: Annotated[Path, typer.Argument(help="Results file of `heisd eval`.")],
    mode: Annotated[str, typer.Option(help="Mode whose verified steps are looked at.")] = "heisd",
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the fit.")] = None,
) -> None:
    """Fit, by episodes, which steps pass in one pass, and say what each term adds.

    It judges terms; no mode decides by it.
    """
    from heisd_ros.evaluation.pass_predictor import describe
    from heisd_ros.evaluation.results import read_results

    try:
        rows = [row for row in read_results(results)["episodes"] if row["mode"] == mode]
        found = describe(rows)
    except ValueError as error:
        raise typer.BadParameter(f"mode {mode!r}: {error}") from error
    console = Console()
    console.print(f"{found['steps']} verified steps, {found['passed']:.0%} of them in one pass")
    table = Table("terms", "AUC on episodes not seen")
    for name, area in found["auc"].items():
        table.add_row(name, f"{area:.3f}")
    console.print(table)
    table = Table("term", "weight, log-odds a deviation")
    for name, weight in found["weights"].items():
        table.add_row(name, f"{weight:+.2f}")
    console.print(table)
    table = Table("chance said", "passed", "steps", title="reliability")
    for chance, share, count in found["reliability"]:
        table.add_row(f"{chance:.2f}", f"{share:.2f}", str(count))
    console.print(table)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

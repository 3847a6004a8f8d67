"""`heisd predictor`: what foresees that a draft passes, and what choosing by it would save."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(add_completion=False)


@app.command()
def predictor(
    results: Annotated[
        Path,
        typer.Argument(help="Results of `heisd eval`, or `predictor_run.json` beside a database."),
    ],
    mode: Annotated[
        str,
        typer.Option(
            help="Mode whose verified steps are looked at; empty: heisd, or heisd_predicted for "
            "the steps of a fit."
        ),
    ] = "",
    costs: Annotated[
        Path | None,
        typer.Option(help="As in `heisd calibrate`, for the steps of a fit."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the fit.")] = None,
) -> None:
    """Fit, by episodes, which steps pass in one pass, and say what each term adds.

    Of the steps of a fit (`heisd calibrate --criterion predictor`), at which every way was tried,
    it says what the choices would take, with the kinematic terms and without them.
    """
    from heisd_ros.errors import HeisdError
    from heisd_ros.evaluation.pass_predictor import describe
    from heisd_ros.evaluation.predictor_steps import FILE
    from heisd_ros.evaluation.results import read_results

    probed = results.name == FILE
    mode = mode or ("heisd_predicted" if probed else "heisd")
    try:
        if probed:
            found = _ablation(results, mode, costs)
        else:
            rows = [row for row in read_results(results)["episodes"] if row["mode"] == mode]
            found = describe(rows)
    except (ValueError, HeisdError) as error:
        raise typer.BadParameter(f"mode {mode!r}: {error}") from error
    (_print_ablation if probed else _print_fit)(found)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _ablation(file: Path, mode: str, costs: Path | None) -> dict[str, Any]:
    from heisd_ros.decoding.modes import load_mode
    from heisd_ros.evaluation.predictor_ablation import ablation
    from heisd_ros.evaluation.predictor_fit import Probed, costs_of
    from heisd_ros.evaluation.predictor_steps import ProbedEpisodes
    from heisd_ros.evaluation.results import read_results

    episodes, settings = ProbedEpisodes.read(file), load_mode(mode)
    measured = costs_of(episodes.rows if costs is None else read_results(costs)["episodes"])
    steps = Probed(*episodes.steps(), settings.skip.agree)
    return {
        "episodes": len(episodes.rows),
        "steps": len(steps.table),
        "costs": vars(measured),
        **ablation(steps, settings, measured, "".join(row["source"] for row in episodes.rows)),
    }


def _print_fit(found: Mapping[str, Any]) -> None:
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


def _print_ablation(found: Mapping[str, Any]) -> None:
    console = Console()
    console.print(f"{found['steps']} steps of {found['episodes']} episodes, every way tried")
    for key in ("auc", "auc in fast motion"):
        table = Table(f"{key.replace('auc', 'AUC')}, episodes not seen", *found[key])
        for name in next(iter(found[key].values())):
            table.add_row(name, *(f"{areas[name]:.3f}" for areas in found[key].values()))
        console.print(table)
    table = Table("choices", "ms a step", "passes a step", "skipped", "of them harmful", "by way")
    for label, row in found["modelled"].items():
        ways = ", ".join(f"{way} {share:.0%}" for way, share in row["ways"].items() if share)
        shares = (f"{row[name]:.1%}" for name in ("skipped", "harmful"))
        table.add_row(label, f"{row['ms']:.2f}", f"{row['passes']:.2f}", *shares, ways)
    console.print(table)

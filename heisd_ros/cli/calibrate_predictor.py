"""The part of `heisd calibrate` that fits a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from heisd_ros.cli.refusals import refusing
from heisd_ros.cli.workers import run_jobs

if TYPE_CHECKING:
    from heisd_ros.decoding.predictor import Predictor
    from heisd_ros.evaluation.calibration_setup import Place


def fit_predictor_of(
    place: Place, tasks: Sequence[int], count: int, draw: int, costs: Path | None, workers: int
) -> None:
    """Runs the episodes of a fit, writes ``predictor.json`` and prints what was fitted.

    Args:
        place: What is loaded.
        tasks: Tasks of the suite.
        count: Number of episodes.
        draw: Seed by which starts are drawn; 0: the calibration states in turn.
        costs: Results file whose times count; None: those of the episodes.
        workers: Processes; 0: one a core.

    Raises:
        HeisdError: A part is missing or cannot be used, or the steps are too few.
    """
    from heisd_ros.decoding.modes import load_mode
    from heisd_ros.evaluation.calibration_episodes import plan_episodes
    from heisd_ros.evaluation.calibration_setup import check_left_out
    from heisd_ros.evaluation.predictor_fit import costs_of, describe_costs, fit_predictor
    from heisd_ros.evaluation.predictor_rig import FittedParts, probe_of, probed_episodes
    from heisd_ros.evaluation.results import read_results
    from heisd_ros.evaluation.starts import calibration_starts

    check_left_out(place)
    parts = FittedParts.of(place)
    episodes = probed_episodes(place, parts, tasks, draw)
    plan = calibration_starts(tasks, count, draw) if draw else plan_episodes(tasks, count)
    with refusing(ValueError, option="--costs"):
        timed = None if costs is None else read_results(costs)["episodes"]
    jobs = [(place, number, plan[number]) for number in episodes.pending(count)]
    for number, row, steps in run_jobs(probe_of, jobs, "episodes, every way tried", workers):
        episodes.add(number, row, steps)
    measured = costs_of(episodes.rows if timed is None else timed)
    predictor = fit_predictor(episodes, load_mode(place.mode), parts, measured)
    path = predictor.save(place.database)
    _print(predictor)
    typer.echo(f"{describe_costs(measured)}\npredictor: {path}")


def _print(predictor: Predictor) -> None:
    table = Table("chance", "steps", "happened", "AUC on episodes not seen", "heaviest terms")
    for name, fit in predictor.chances.items():
        heaviest = sorted(zip(fit.terms, fit.weights, strict=True), key=lambda each: -abs(each[1]))
        terms = ", ".join(f"{term} {weight:+.2f}" for term, weight in heaviest[:3])
        table.add_row(name, str(fit.steps), f"{fit.share:.0%}", f"{fit.auc:.3f}", terms)
    Console().print(table)

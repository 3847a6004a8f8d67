"""`heisd calibrate`: how far skipping may go, measured in closed loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from heisd_ros.cli.calibrate_predictor import fit_predictor_of
from heisd_ros.cli.model_options import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    ProtocolOption,
    UnnormKeyOption,
    WorkersOption,
)
from heisd_ros.cli.refusals import refusing
from heisd_ros.cli.workers import run_jobs
from heisd_ros.errors import CalibrationError, HeisdError
from heisd_ros.sim.suites import tasks_of

if TYPE_CHECKING:
    from heisd_ros.decoding.calibrated_path import CalibratedPath

app = typer.Typer(add_completion=False)


@app.command()
@refusing(HeisdError)
def calibrate(
    database: Annotated[
        Path,
        typer.Argument(
            help="Database, or the checkpoint of a mode that keeps reasonings; the result goes "
            "into its folder."
        ),
    ],
    model: ModelOption = "",
    suite: Annotated[str, typer.Option(help="LIBERO suite.")] = "libero_spatial",
    risk: Annotated[
        float, typer.Option(help="What an episode may be expected to lose, 0 to 1.")
    ] = 0.05,
    criterion: Annotated[
        Literal["disagreement", "failure", "excess", "predictor"],
        typer.Option(
            help="What it loses: the share of its steps that were skipped, or kept a reasoning, "
            "and disagree with the model's own; 1 "
            "where it fails; or, of a pair from the same start, 1 where it fails less 1 where the "
            "plain loop does (needs --draw; the risk is the margin). predictor: nothing is "
            "bounded; the predictor of a mode such as heisd_predicted is fitted."
        ),
    ] = "disagreement",
    episodes: Annotated[int, typer.Option(help="Episodes at each setting, 19 at least.")] = 100,
    mode: Annotated[str, typer.Option(help="Mode to calibrate, or its YAML file.")] = "heisd",
    drafter: Annotated[str, typer.Option(help="Drafter folder; empty: MODEL/drafter.")] = "",
    level: Annotated[
        list[float] | None,
        typer.Option(help="Levels of the path in the database, rising; repeatable."),
    ] = None,
    rule: Annotated[
        Literal["each_setting", "path_maximum"],
        typer.Option(help="path_maximum promises more and lets less pass."),
    ] = "each_setting",
    task: Annotated[list[int] | None, typer.Option(help="Only these tasks.")] = None,
    draw: Annotated[
        int,
        typer.Option(
            help="Seed by which starts are drawn fresh, each from a perturbed state; 0: the "
            "calibration states in turn.",
            min=0,
        ),
    ] = 0,
    run: Annotated[
        list[int] | None,
        typer.Option(help="Skips in a row of the path by excess, rising; default 1 2 3 5 10."),
    ] = None,
    delta: Annotated[
        float, typer.Option(help="Chance that excess shows what is not so.", min=0.001, max=0.5)
    ] = 0.1,
    costs: Annotated[
        Path | None,
        typer.Option(
            help="Results file of `heisd eval` from an idle machine, whose times a predictor "
            "reckons with; empty: those of the episodes of its fit."
        ),
    ] = None,
    protocol: ProtocolOption = "",
    unnorm_key: UnnormKeyOption = "",
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    workers: WorkersOption = 0,
) -> None:
    """Find the loosest skipping, or how long reasonings may be kept, that stays within a risk.

    Episodes start from initial states 32 to 39, which neither the database nor an evaluation holds.
    A run that was stopped is resumed.
    """
    from heisd_ros.decoding.assembly import keeps_by_calibration
    from heisd_ros.decoding.modes import load_mode
    from heisd_ros.evaluation.calibration_episodes import instructions_of
    from heisd_ros.evaluation.calibration_rig import run_episode_of
    from heisd_ros.evaluation.calibration_setup import Aim, Place, prepare
    from heisd_ros.models import find_model

    workers = workers or (1 if device.startswith("cuda") else 0)
    tasks = tuple(dict.fromkeys(task or tasks_of(suite)))
    keeps = keeps_by_calibration(load_mode(mode))
    if keeps and model not in ("", str(database)):
        raise CalibrationError(
            f"--model is {model!r}, but the calibration of mode {mode!r} lies beside its "
            f"checkpoint; accepted: {str(database)!r}"
        )
    folder = str(database) if keeps else str(find_model(model))
    place = Place(
        suite,
        folder,
        "" if keeps else str(database),
        drafter or str(Path(folder) / "drafter"),
        mode,
        protocol,
        unnorm_key,
        device,
        dtype,
    )
    place.read_protocol()  # now, and not in a worker
    if criterion == "predictor":
        fit_predictor_of(place, tasks, episodes, draw, costs, workers)
        return
    levels, lengths = tuple(level or ()), tuple(run or ())
    aim = Aim(tasks, risk, criterion, episodes, levels, rule, draw, lengths, delta)
    walk, plan = prepare(place, aim), aim.starts()
    while pending := walk.pending():
        # Task by task, so that a worker seldom has to make another scene.
        pending.sort(key=lambda job: plan[job[1]].task_index)
        setting = max(each for each, _ in pending)
        jobs = [(place, walk.candidate, s, number, plan[number]) for s, number in pending]
        label = f"setting {setting + 1} of {walk.candidate.length}, episodes"
        for ran, number, loss in run_jobs(run_episode_of, jobs, label, workers):
            walk.add(ran, number, loss)
            if walk.fails(ran):
                break  # the jobs that have not begun are cancelled
    calibration = walk.result(plan, instructions_of(suite, tasks))
    path = calibration.save(database)
    _print(calibration)
    typer.echo(f"{calibration.guarantee}\ncalibration: {path}")


def _print(calibration: CalibratedPath) -> None:
    path = _columns(calibration)
    table = Table("setting", *path, "episodes", "loss", "bound", caption="* chosen")
    for heading in (calibration.PART, "disagree", "success"):
        table.add_column(heading)
    for number, row in enumerate(calibration.tried):
        table.add_row(
            f"{number + 1}{' *' if number == calibration.chosen else ''}",
            *(column[number] for column in path.values()),
            str(row.episodes),
            f"{row.loss:.2%}",
            f"{row.bound:.2%}",
            f"{row.skip_rate:.0%}",
            f"{row.disagreement:.0%}",
            f"{row.success_rate:.0%}",
        )
    Console().print(table)


def _columns(calibration: CalibratedPath) -> dict[str, list[str]]:
    """Returns the columns of a path by their headings."""
    from heisd_ros.decoding.calibration import Calibration
    from heisd_ros.decoding.reasoning_calibration import ReasoningCalibration

    if isinstance(calibration, Calibration):
        most, settings = calibration.max_consecutive, range(calibration.length)
        return {
            "cosine >=": [f"{value:.4f}" for value in calibration.similarity],
            "bins <=": [f"{value:.1f}" for value in calibration.dispersion],
            "in a row": [str(calibration.longest_run(number, most)) for number in settings],
        }
    assert isinstance(calibration, ReasoningCalibration)
    columns = {"in a row": [str(value) for value in calibration.steps]}
    if calibration.boundary:
        columns["F >="] = [f"{value:.2f}" for value in calibration.boundary]
    return columns

"""`heisd calibrate`: how far skipping may go, measured in closed loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from heisd_ros.cli.db import parse_states
from heisd_ros.cli.demos import PICK_AND_PLACE
from heisd_ros.cli.model_options import (
    DeviceOption,
    DtypeOption,
    ProtocolOption,
    UnnormKeyOption,
    WorkersOption,
)
from heisd_ros.cli.workers import run_jobs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from heisd_ros.decoding.assembly import Assembly
    from heisd_ros.decoding.calibration import Calibration, Criterion
    from heisd_ros.decoding.conformal import Rule
    from heisd_ros.decoding.settings import ModeSettings
    from heisd_ros.evaluation.calibration import CalibrationEpisode, EpisodeLoss
    from heisd_ros.evaluation.calibration_run import CalibrationRun
    from heisd_ros.families.openvla.vla import VLA
    from heisd_ros.retrieval.database import Matches
    from heisd_ros.sim.protocol import Protocol

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Place:
    """What a worker loads: names and folders.

    Attributes:
        suite: LIBERO suite.
        model: folder of the checkpoint.
        database: folder of the database.
        drafter: folder of the drafter.
        mode: the mode that skips.
        protocol: name or file of the protocol; empty: by the checkpoint.
        unnorm_key: action statistics; empty: by the protocol.
        device: that runs the model.
        dtype: number format of its weights.
    """

    suite: str
    model: str
    database: str
    drafter: str
    mode: str
    protocol: str = ""
    unnorm_key: str = ""
    device: str = "cpu"
    dtype: str = "float32"

    def load_model(self) -> tuple[VLA, Protocol]:
        """The model as its protocol has it, and that."""
        from heisd_ros.sim.protocol import load_for_suite

        protocol = self.read_protocol()
        options = {"device": self.device, "dtype": self.dtype, "unnorm_key": self.unnorm_key}
        return load_for_suite(self.model, self.suite, protocol, **options), protocol

    def read_protocol(self) -> Protocol:
        """The protocol; raises what it, or the model's statistics, have wrong."""
        from heisd_ros.families.openvla.checkpoint import statistics_of
        from heisd_ros.sim.protocol import load_protocol

        protocol = load_protocol(self.protocol, self.model)
        protocol.statistics_key(self.suite, statistics_of(self.model), self.unnorm_key)
        return protocol


@app.command()
def calibrate(
    database: Annotated[Path, typer.Argument(help="Database; the result goes into its folder.")],
    model: Annotated[str, typer.Option(help="Checkpoint folder; empty: the shipped one.")] = "",
    suite: Annotated[str, typer.Option(help="LIBERO suite.")] = "libero_spatial",
    risk: Annotated[
        float, typer.Option(help="What an episode may be expected to lose, 0 to 1.")
    ] = 0.05,
    criterion: Annotated[
        Literal["disagreement", "failure"],
        typer.Option(
            help="What it loses: the share of its skipped steps that disagree with the model, or "
            "1 where it fails."
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
    protocol: ProtocolOption = "",
    unnorm_key: UnnormKeyOption = "",
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    workers: WorkersOption = 0,
) -> None:
    """Find the loosest skipping that stays within a risk.

    Episodes start from initial states 32 to 39, which neither the database nor an evaluation holds.
    A run that was stopped goes on where it was.
    """
    from heisd_ros.errors import HeisdError
    from heisd_ros.evaluation.calibration import instructions_of, plan_episodes
    from heisd_ros.evaluation.paired import fresh_episodes
    from heisd_ros.models import shipped_model

    folder = model or str(shipped_model())
    place = Place(
        suite,
        folder,
        str(database),
        drafter or str(Path(folder) / "drafter"),
        mode,
        protocol,
        unnorm_key,
        device,
        dtype,
    )
    workers = workers or (1 if device.startswith("cuda") else 0)
    tasks = task or list(PICK_AND_PLACE.get(suite, range(10)))
    try:
        place.read_protocol()  # now, and not in a worker
        run = _prepare(place, tasks, risk, criterion, episodes, level, rule, draw)
        plan = fresh_episodes(tasks, episodes, draw) if draw else plan_episodes(tasks, episodes)
        while pending := run.pending():
            # Task by task, so that a worker seldom has to make another scene.
            pending.sort(key=lambda job: plan[job[1]].task_index)
            setting = pending[0][0]
            jobs = [(place, run.candidate.at(s), number, plan[number]) for s, number in pending]
            label = f"setting {setting + 1} of {len(run.candidate.similarity)}, episodes"
            for number, loss in run_jobs(_episode, jobs, label, workers):
                run.add(setting, number, loss)
                if run.fails(setting):
                    break  # the jobs that have not begun are cancelled
        calibration = run.result(plan, instructions_of(suite, tasks))
        path = calibration.save(database)
    except HeisdError as error:
        raise typer.BadParameter(str(error)) from error
    _print(calibration)
    typer.echo(f"{calibration.guarantee}\ncalibration: {path}")


def _prepare(
    place: Place,
    tasks: list[int],
    risk: float,
    criterion: Criterion,
    episodes: int,
    levels: list[float] | None,
    rule: Rule,
    draw: int,
) -> CalibrationRun:
    """The walk, begun or resumed; raises the errors of what it reads."""
    from heisd_ros.decoding.calibration import Calibration
    from heisd_ros.decoding.modes import load_mode
    from heisd_ros.evaluation.calibration import CALIBRATION_STATES, LEVELS, path_of
    from heisd_ros.evaluation.calibration_run import FILE, CalibrationRun

    if not 0.0 < risk < 1.0:
        raise typer.BadParameter(f"--risk {risk} must be between 0 and 1")
    settings, assembly = _open(place)
    opened = assembly.database
    states = opened.manifest.provenance.get("states")
    stored = parse_states(states) if isinstance(states, str) else set()
    if shared := sorted(stored & set(CALIBRATION_STATES)):
        raise typer.BadParameter(
            f"{place.database} holds initial states {shared}, which are to calibrate with; build "
            "it without them (`heisd db build --states 0-29`)"
        )
    path = path_of(opened, settings.retrieval.k, levels or LEVELS, _executed(place, settings))
    candidate = Calibration(
        similarity=path[0],
        dispersion=path[1],
        chosen=None,
        risk=risk,
        criterion=criterion,
        rule=rule,
        tried=(),
        k=settings.retrieval.k,
        max_consecutive=settings.skip.max_consecutive,
        clearance=settings.skip.clearance,
        speed=settings.skip.speed,
        mode=Path(place.mode).stem,
        suite=place.suite,
        episodes=episodes,
        database_id=opened.manifest.database_id,
        model_fingerprint=assembly.fingerprint,
        created="",
        settings=load_mode(place.mode).decisive(),
    )
    provenance = {
        "tasks": tasks,
        "mode": asdict(settings),
        "drafter": assembly.drafter_hash(settings),
        **({"draw": draw} if draw else {}),
    }
    return CalibrationRun(candidate, Path(place.database) / FILE, provenance)


def _executed(place: Place, settings: ModeSettings) -> Callable[[Matches], NDArray[np.int64]]:
    """The tokens that the mode makes of what was retrieved."""
    if settings.retrieval.payload == "own":
        return lambda matches: matches.tokens
    vla, _ = place.load_model()
    return lambda matches: vla.codec.tokens(matches.actions)


def _open(place: Place) -> tuple[ModeSettings, Assembly]:
    """The mode as it is calibrated, and what its decoders are put together of."""
    from heisd_ros.data.libero_source import ROBOT
    from heisd_ros.decoding.assembly import Assembly
    from heisd_ros.decoding.modes import load_mode
    from heisd_ros.evaluation.calibration import calibration_mode

    settings = calibration_mode(load_mode(place.mode))
    return settings, Assembly(place.model, place.database, place.drafter, ROBOT)


class _Rig:
    """What a worker keeps from episode to episode."""

    def __init__(self, place: Place) -> None:
        from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
        from heisd_ros.evaluation.rollout import Senses

        self._place = place
        self._mode, self._assembly = _open(place)
        self._vla, self._protocol = place.load_model()
        self._senses = Senses.of(self._vla.config)
        self._reference = AutoregressiveDecoder(self._vla)
        self._scene: Any = None

    def run(self, candidate: Calibration, episode: CalibrationEpisode) -> EpisodeLoss:
        """One episode with a decoder of its own: nothing is carried over."""
        from heisd_ros.evaluation.calibration import judge_episode
        from heisd_ros.evaluation.rollout import make_scene
        from heisd_ros.kinematics.metric import FusedMetric

        if self._scene is None or self._scene.task_index != episode.task_index:
            if self._scene is not None:
                self._scene.close()
            self._scene = make_scene(self._place.suite, episode.task_index, self._protocol)
        # Here it runs without shadow checks and feedback, which only ever prevent a skip.
        own = replace(candidate, settings=self._mode.decisive())
        decoder = self._assembly.decoder(self._vla, self._mode, calibration=own)
        bounds = self._assembly.bounds(self._mode)
        metric = None if bounds is None else FusedMetric(bounds)
        return judge_episode(self._scene, decoder, self._reference, episode, metric, self._senses)


_rigs: dict[Place, _Rig] = {}
"""A worker's."""


def _episode(
    place: Place, candidate: Calibration, number: int, episode: CalibrationEpisode
) -> tuple[int, EpisodeLoss]:
    if place not in _rigs:
        _rigs[place] = _Rig(place)
    return number, _rigs[place].run(candidate, episode)


def _print(calibration: Calibration) -> None:
    headings = ("setting", "cosine >=", "bins <=", "episodes", "loss", "bound")
    table = Table(*headings, "skipped", "disagree", "success", caption="* chosen")
    for number, row in enumerate(calibration.tried):
        table.add_row(
            f"{number + 1}{' *' if number == calibration.chosen else ''}",
            f"{calibration.similarity[number]:.4f}",
            f"{calibration.dispersion[number]:.1f}",
            str(row.episodes),
            f"{row.loss:.2%}",
            f"{row.bound:.2%}",
            f"{row.skip_rate:.0%}",
            f"{row.disagreement:.0%}",
            f"{row.success_rate:.0%}",
        )
    Console().print(table)

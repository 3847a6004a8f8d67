"""Sets up a calibration: its parts, its goal, and the walk over settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.data.libero_source import ROBOT
from heisd_ros.decoding.answer_actions import padded
from heisd_ros.decoding.assembly import Assembly, keeps_by_calibration
from heisd_ros.decoding.calibration import RUN_SETTING, Calibration, Criterion
from heisd_ros.decoding.conformal import Rule
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.reasoning_calibration import (
    ReasoningCalibration,
    path_of_keeping,
    scale_of,
)
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.errors import CalibrationError
from heisd_ros.evaluation.calibration_episodes import (
    LEVELS,
    calibration_mode,
    path_of,
    plan_episodes,
)
from heisd_ros.evaluation.calibration_run import FILE, CalibrationRun
from heisd_ros.evaluation.paired_run import FILE as PAIRS
from heisd_ros.evaluation.paired_run import LEVEL, RUNS, PairedRun
from heisd_ros.evaluation.setup import run_as
from heisd_ros.evaluation.starts import CALIBRATION_STATES, Start, calibration_starts
from heisd_ros.families.checkpoint import statistics_of
from heisd_ros.files.ranges import parse_ranges
from heisd_ros.retrieval.database import Database, Matches
from heisd_ros.sim.protocol import Protocol, load_for_suite, load_protocol
from heisd_ros.vla.token_model import TokenModel


@dataclass(frozen=True)
class Place:
    """Names and folders of what a worker loads.

    Attributes:
        suite: LIBERO suite.
        model: folder of the checkpoint.
        database: folder of the database; empty: as in `Assembly`.
        drafter: folder of the drafter.
        mode: the mode that skips or keeps reasonings.
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

    def load_model(self) -> tuple[TokenModel, Protocol]:
        """Loads the model with its protocol; returns both."""
        protocol = self.read_protocol()
        options = {"device": self.device, "dtype": self.dtype, "unnorm_key": self.unnorm_key}
        return load_for_suite(self.model, self.suite, protocol, **options), protocol

    def read_protocol(self) -> Protocol:
        """Reads the protocol; raises if it or the model's statistics are invalid."""
        protocol = load_protocol(self.protocol, self.model)
        protocol.statistics_key(self.suite, statistics_of(self.model), self.unnorm_key)
        return protocol

    def run_as(self) -> dict[str, Any]:
        """Returns how model and episodes are run, where it is not as usual; see `run_as`."""
        return run_as(self.read_protocol(), self.unnorm_key, self.device, self.dtype)

    def open(self) -> tuple[ModeSettings, Assembly]:
        """Returns the mode as it is calibrated, and the parts of its decoders."""
        return calibration_mode(load_mode(self.mode)), self.assembly()

    def assembly(self) -> Assembly:
        """Returns what makes decoders of the place's parts."""
        return Assembly(self.model, self.database, self.drafter, ROBOT)


@dataclass(frozen=True)
class Aim:
    """Goal of a calibration.

    Attributes:
        tasks: of the suite.
        risk: accepted expected loss of an episode; with ``excess``, the margin.
        criterion: what an episode loses, see `Calibration`.
        episodes: at each setting.
        levels: of the path of thresholds, rising; empty: the default ones.
        rule: how the bound is computed.
        draw: seed by which starts are drawn; 0: the calibration states in turn.
        runs: skips in a row, rising, by ``excess``; empty: the default ones.
        delta: chance of being wrong, by ``excess``.

    Raises:
        CalibrationError: the values don't fit together.
    """

    tasks: tuple[int, ...]
    risk: float
    criterion: Criterion = "disagreement"
    episodes: int = 100
    levels: tuple[float, ...] = ()
    rule: Rule = "each_setting"
    draw: int = 0
    runs: tuple[int, ...] = ()
    delta: float = 0.1

    def __post_init__(self) -> None:
        """Validates what the candidate does not validate."""
        if not 0.0 < self.risk < 1.0:
            raise CalibrationError(f"risk {self.risk} must be between 0 and 1")
        if self.paired and not self.draw:
            raise CalibrationError(
                "criterion excess needs fresh starts; accepted: a draw (--draw SEED) of 1 or more"
            )
        if self.paired and len(self.levels) > 1:
            raise CalibrationError(
                f"criterion excess walks along run lengths at one level; got {list(self.levels)}"
            )
        if self.runs and not self.paired:
            raise CalibrationError(f"runs {list(self.runs)} are a path of criterion excess alone")

    @property
    def paired(self) -> bool:
        """Whether the plain loop runs as well."""
        return self.criterion == "excess"

    def starts(self) -> list[Start]:
        """Returns the starts of the episodes, in order; a longer list extends a shorter one."""
        if self.draw:
            return calibration_starts(self.tasks, self.episodes, self.draw)
        return plan_episodes(self.tasks, self.episodes)


def prepare(place: Place, aim: Aim) -> CalibrationRun | PairedRun:
    """Starts or resumes the walk.

    Raises:
        HeisdError: An input is missing, damaged or does not fit, or there are too few episodes.
    """
    settings, assembly = place.open()
    if settings.retrieves:
        check_left_out(place, assembly.database)
    keeps = keeps_by_calibration(settings)
    candidate = (_keeping if keeps else _skipping)(place, aim, settings, assembly)
    provenance = {
        "tasks": list(aim.tasks),
        "mode": settings.recorded(),
        "drafter": assembly.drafter_hash(settings),
        **({"draw": aim.draw} if aim.draw else {}),
        **place.run_as(),
    }
    folder = Path(place.model if keeps else place.database)
    if isinstance(candidate, Calibration) and aim.paired:
        return PairedRun(candidate, folder / PAIRS, provenance)
    return CalibrationRun(candidate, folder / FILE, provenance)


def _common(place: Place, aim: Aim, assembly: Assembly) -> dict[str, Any]:
    """Returns the fields of `CalibratedPath` before the walk."""
    return {
        "chosen": None,
        "risk": aim.risk,
        "criterion": aim.criterion,
        "rule": aim.rule,
        "tried": (),
        "mode": Path(place.mode).stem,
        "suite": place.suite,
        "episodes": aim.episodes,
        "model_fingerprint": assembly.fingerprint,
        "created": "",
        "settings": load_mode(place.mode).decisive(),
    }


def _keeping(
    place: Place, aim: Aim, settings: ModeSettings, assembly: Assembly
) -> ReasoningCalibration:
    """Returns the path of a mode that keeps reasonings."""
    if aim.paired or aim.levels:
        raise CalibrationError(
            f"criterion excess and levels are of skipping, and mode {place.mode!r} keeps "
            "reasonings; accepted with it: criterion disagreement or failure, and no level"
        )
    steps, boundary = path_of_keeping(settings)
    bounds = assembly.bounds(settings)
    common = _common(place, aim, assembly)
    found = ReasoningCalibration(
        **common, steps=steps, boundary=boundary, scale=scale_of(settings, bounds)
    )
    found.at(len(steps) - 1).limit(settings)  # now, and not in a worker
    return found


def _skipping(place: Place, aim: Aim, settings: ModeSettings, assembly: Assembly) -> Calibration:
    """Returns the path of a mode that skips."""
    opened = assembly.database
    runs = (aim.runs or RUNS) if aim.paired else ()
    levels = aim.levels or ((LEVEL,) if aim.paired else LEVELS)
    path = path_of(opened, settings.retrieval.k, levels, _executed(place, settings))
    common = _common(place, aim, assembly)
    if runs:
        # The path consists of run lengths, all at one threshold.
        path = path[0] * len(runs), path[1] * len(runs)
        common["settings"].pop(RUN_SETTING)
    return Calibration(
        **common,
        similarity=path[0],
        dispersion=path[1],
        k=settings.retrieval.k,
        max_consecutive=runs[-1] if runs else settings.skip.max_consecutive,
        clearance=settings.skip.clearance,
        speed=settings.skip.speed,
        database_id=opened.manifest.database_id,
        runs=runs,
        delta=aim.delta,
    )


def check_left_out(place: Place, opened: Database | None = None) -> None:
    """Checks that a database holds none of the states to calibrate with.

    Args:
        place: Names the database.
        opened: The database, where it is open already.

    Raises:
        CalibrationError: It holds some.
        DatabaseError: It is missing or damaged.
    """
    opened = opened or place.assembly().database
    states = opened.manifest.provenance.get("states")
    try:
        stored = parse_ranges(states) if isinstance(states, str) else set()
    except ValueError as error:
        raise CalibrationError(f"{place.database}: states {error}") from error
    if shared := sorted(stored & set(CALIBRATION_STATES)):
        raise CalibrationError(
            f"{place.database} holds initial states {shared}, which are to calibrate with; build "
            "it without them (`heisd db build --states 0-29`)"
        )


def _executed(place: Place, settings: ModeSettings) -> Callable[[Matches], NDArray[np.int64]]:
    """Returns the function from matches to the tokens that the mode would execute."""
    if settings.retrieval.payload == "own":
        return lambda matches: matches.tokens
    vla, _ = place.load_model()
    codec = vla.codec
    shape = codec.horizon, codec.dimensions
    return lambda matches: padded(
        [codec.encode(row.reshape(shape)) for row in matches.actions], codec.max_tokens
    )

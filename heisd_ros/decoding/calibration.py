"""What a calibration of skipping found, and ``calibration.json`` in a database's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from heisd_ros.decoding.conformal import Rule, risk_bounds
from heisd_ros.decoding.guarantee import guarantee_of
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.errors import CalibrationError
from heisd_ros.files.atomic import replace_text
from heisd_ros.files.bounded import read_object, shown
from heisd_ros.files.typed import check_fields, typed, within

FILE = "calibration.json"
FORMAT = 3
MOST_EPISODES = 1_000_000
Criterion = Literal["disagreement", "failure", "excess"]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
RUN_SETTING = "skip.max_consecutive"
FIX = "run `heisd calibrate DATABASE`"


@dataclass(frozen=True)
class TriedSetting:
    """What was measured in the calibration's episodes at one setting.

    Attributes:
        loss: mean loss of an episode, see `Calibration.criterion`.
        bound: (sum of losses + 1) / (episodes + 1), which is compared with the risk, see
            `conformal`; with fewer episodes than planned, what it would have come to at least. By
            ``excess``, what the mean excess is below with confidence 1 - delta.
        disagreement: share of all skipped steps, of all episodes together, that left the tolerance.
        episode_disagreement: mean over episodes of the share of each one's own.
        skip_rate: share of all steps that were skipped.
        retrieved_rate: share of all steps in the zone of retrieval, slow ones included.
        success_rate: share of episodes that succeeded.
        episodes: how many were run; fewer than planned where failure was certain before the end.
        won: pairs of which the mode alone solved the task (``excess``).
        lost: pairs of which the plain loop alone did.
    """

    loss: float
    bound: float
    disagreement: float
    episode_disagreement: float
    skip_rate: float
    retrieved_rate: float
    success_rate: float
    episodes: int
    won: int = 0
    lost: int = 0

    @property
    def rate_of_retrieved(self) -> float:
        """Share of the steps that could be skipped that were: the rate for random skipping."""
        return self.skip_rate / self.retrieved_rate if self.retrieved_rate > 0.0 else 0.0


@dataclass(frozen=True)
class Calibration:
    """A path of settings from strict to loose, and how far along it skipping may go.

    Attributes:
        similarity: least similarity of each setting, falling.
        dispersion: greatest dispersion of each setting, bins, rising.
        chosen: the loosest setting within the risk; None where the strictest exceeds it.
        risk: the risk that was requested.
        criterion: what an episode loses: the share of its skipped steps that left the tolerance
            around the model's own action (``disagreement``), 1 where it failed (``failure``), or,
            of a pair from the same start, 1 where it failed less 1 where the plain loop did
            (``excess``); the risk is then the margin that the mean excess is shown to be below.
        rule: how the bound was computed.
        tried: what was measured, of the settings from the strictest on.
        k: entries retrieved in the calibration; dispersion depends on it.
        max_consecutive: skips in a row that the calibration allowed.
        clearance: least number of control steps to a change of the gripper.
        speed: least speed of the end effector, m/s.
        mode: name of the mode that ran, skipping included.
        suite: simulation suite in which it ran.
        episodes: episodes planned at each setting.
        database_id: the database whose neighbours were judged.
        model_fingerprint: the model that judged them.
        created: time of creation, ISO 8601, UTC.
        settings: of the mode that ran, by `ModeSettings.decisive`; empty: any mode is accepted.
        tasks: mean loss of each task's episodes at the chosen setting, by normalised instruction.
            A task whose loss exceeds the risk, or that is not listed, is never skipped in. Empty:
            losses were not counted by task.
        starts: task, initial state and variation of the start of each episode, each used once.
        runs: skips in a row that each setting allows, rising; empty: `max_consecutive` at all.
        delta: chance that a setting passes by ``excess`` although its excess is the risk or more.

    Raises:
        CalibrationError: the values don't fit together.
    """

    similarity: tuple[float, ...]
    dispersion: tuple[float, ...]
    chosen: int | None
    risk: Share
    criterion: Criterion
    rule: Rule
    tried: tuple[TriedSetting, ...]
    k: Annotated[int, within(1)]
    max_consecutive: Annotated[int, within(1)]
    clearance: Annotated[int, within(0)]
    speed: Annotated[float, within(0)]
    mode: str
    suite: str
    episodes: Annotated[int, within(1, MOST_EPISODES)]
    database_id: str
    model_fingerprint: str
    created: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, float] = field(default_factory=dict)
    starts: tuple[tuple[int, int, int], ...] = ()
    runs: tuple[int, ...] = ()
    delta: Share = 0.1

    def __post_init__(self) -> None:
        """Checks the values and raises CalibrationError if they don't fit together."""
        try:
            check_fields(self)
            if problem := self._problem():
                raise ValueError(problem)
        except ValueError as error:
            raise CalibrationError(f"a calibration whose {error}; {FIX}") from error

    @property
    def measured(self) -> TriedSetting | None:
        """What was measured at the chosen setting; None if none was chosen or measured."""
        if self.chosen is None or self.chosen >= len(self.tried):
            return None
        return self.tried[self.chosen]

    @property
    def mode_hash(self) -> str:
        """SHA-256 of the settings of the mode that ran."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    def allows(self, task: str) -> bool:
        """Whether steps of a task, given by its normalised instruction, may be skipped."""
        return not self.tasks or self.tasks.get(task, 1.0) <= self.risk

    def longest_run(self, setting: int | None, most: int) -> int:
        """Returns how many skips in a row a setting allows, of at most `most` that the mode has.

        With a path of runs it is one of those that were measured: the greatest up to that of the
        setting and up to `most`; 0 if there is none.
        """
        if not self.runs or setting is None:
            return most
        return max((run for run in self.runs[: setting + 1] if run <= most), default=0)

    @property
    def drift_limit(self) -> float:
        """The mean disagreement of an episode above which shadow checks report drift.

        The level seen while calibrating is no drift, and long episodes weigh more in the share over
        all skips. With ``disagreement`` the limit is the risk, or that share if it was greater.
        With ``failure`` nothing bounded the disagreement, so the limit is the bound on a fresh
        episode's disagreement, computed in the same way as the bound on the risk.
        """
        measured = self.measured
        if measured is None:
            return self.risk
        if self.criterion == "disagreement":
            return max(self.risk, measured.disagreement)
        mean = np.full((measured.episodes, 1), measured.episode_disagreement)
        return min(max(self.risk, measured.disagreement, float(risk_bounds(mean)[0])), 0.99)

    @property
    def guarantee(self) -> str:
        """What the numbers guarantee and what they don't, as text to show beside them."""
        return guarantee_of(self)

    def at(self, setting: int) -> Calibration:
        """Returns the same path with another setting chosen, as a calibration run uses it."""
        return replace(self, chosen=setting)

    def check(self, database_id: str, model_fingerprint: str) -> None:
        """Checks that this calibration was made for a database and a model.

        Raises:
            CalibrationError: it was made for others.
        """
        for what, own, other in (
            ("database", self.database_id, database_id),
            ("model", self.model_fingerprint, model_fingerprint),
        ):
            if own != other:
                raise CalibrationError(
                    f"the calibration of {self.created} is of the {what} {own[:12]}, but the "
                    f"{what} in use is {other[:12]}: it was rebuilt or replaced since; {FIX}"
                )

    def check_mode(self, mode: ModeSettings) -> None:
        """Checks that this calibration was made with every decisive setting of a mode.

        Raises:
            CalibrationError: settings differ; the message names them.
        """
        own, used = dict(self.settings), mode.decisive()
        if self.runs:
            # Runs were part of the path, and `longest_run` allows only those that were measured.
            own.pop(RUN_SETTING, None), used.pop(RUN_SETTING)
        differ = [
            f"{name} is {used.get(name)!r}, calibrated was {own.get(name)!r}"
            for name in sorted({*own, *used})
            if own.get(name) != used.get(name)
        ]
        if differ:
            raise CalibrationError(
                f"the calibration of {self.created} is of other settings than the mode's: "
                f"{'; '.join(differ)}; {FIX} with this mode"
            )

    def save(self, folder: str | Path) -> Path:
        """Writes ``calibration.json`` into a database's folder atomically."""
        path = Path(folder) / FILE
        derived = {"mode_hash": self.mode_hash, "guarantee": self.guarantee}
        values = {"format": FORMAT, **asdict(self), **derived}
        replace_text(path, json.dumps(values, indent=2) + "\n")
        return path

    @classmethod
    def load(cls, folder: str | Path, database_id: str, model_fingerprint: str) -> Calibration:
        """Reads a database's calibration.

        Args:
            folder: the database's folder.
            database_id: id of the database in use.
            model_fingerprint: fingerprint of the model in use.

        Raises:
            CalibrationError: there is none, it is damaged, or it was made for another database or
                model.
        """
        path = Path(folder) / FILE
        if not path.exists():
            raise CalibrationError(f"no calibration {path}; {FIX}")
        values = read_object(path, lambda problem: CalibrationError(f"{problem}; {FIX}"))
        try:
            calibration = cls._from_dict(values)
        except ValueError as error:
            raise CalibrationError(f"{path} is no calibration: {error}; {FIX}") from error
        except CalibrationError as error:
            raise CalibrationError(f"{path}: {error}") from error
        calibration.check(database_id, model_fingerprint)
        return calibration

    @classmethod
    def _from_dict(cls, values: dict[str, Any]) -> Calibration:
        if values.get("format") != FORMAT:
            found = shown(values.get("format"))
            raise ValueError(f"format is {found}; accepted: {FORMAT}, that of this version")
        known = {entry.name for entry in fields(cls)}
        given = {name: value for name, value in values.items() if name in known}
        read = typed(cls, given)
        if values.get("mode_hash") != read.mode_hash:
            raise ValueError("mode_hash is not that of its settings")
        return read

    def _problem(self) -> str:
        """What does not fit together, if anything does not."""
        count = len(self.similarity)
        if count == 0 or len(self.dispersion) != count or len(self.tried) > count:
            return (
                f"path has {count} similarities, {len(self.dispersion)} dispersions and "
                f"{len(self.tried)} measurements"
            )
        if any(b > a for a, b in pairwise(self.similarity)):
            return f"similarities do not fall: {self.similarity}"
        if any(b < a for a, b in pairwise(self.dispersion)):
            return f"dispersions do not rise: {self.dispersion}"
        if self.chosen is not None and not 0 <= self.chosen < count:
            return f"chosen setting {self.chosen!r} is outside the path of {count}"
        if self.runs and (
            len(self.runs) != count
            or self.runs[0] < 1
            or any(b <= a for a, b in pairwise(self.runs))
        ):
            return f"runs {self.runs} are not {count} rising numbers from 1 on"
        ran = [tried.episodes for tried in self.tried]
        if not all(0 < n <= self.episodes for n in ran):
            return f"episodes are {self.episodes} planned and {ran} run (no more run than planned)"
        return ""

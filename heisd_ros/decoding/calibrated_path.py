"""What every calibration holds: a path of settings, what was measured along it, and its file."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field

from heisd_ros.decoding.conformal import Rule, risk_bounds
from heisd_ros.decoding.guarantee import Words, guarantee_of
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
_Path = TypeVar("_Path", bound="CalibratedPath")


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


@dataclass(frozen=True, kw_only=True)
class CalibratedPath(ABC):
    """A path of settings from strict to loose, and how far along it a mode may go.

    Attributes:
        chosen: the loosest setting within the risk; None where the strictest exceeds it.
        risk: the risk that was requested.
        criterion: what an episode loses: the share of its steps that were not decoded in full and
            left the tolerance around the model's own action (``disagreement``), 1 where it failed
            (``failure``), or, of a pair from the same start, 1 where it failed less 1 where the
            plain loop did (``excess``); the risk is then the margin that the mean excess is shown
            to be below.
        rule: how the bound was computed.
        tried: what was measured, of the settings from the strictest on.
        mode: name of the mode that ran.
        suite: simulation suite in which it ran.
        episodes: episodes planned at each setting.
        model_fingerprint: the model that ran.
        created: time of creation, ISO 8601, UTC.
        settings: of the mode that ran, by `ModeSettings.decisive`; empty: any mode is accepted.
        tasks: mean loss of each task's episodes at the chosen setting, by normalised instruction.
            A task whose loss exceeds the risk, or that is not listed, is decoded in full. Empty:
            losses were not counted by task.
        starts: task, initial state and variation of the start of each episode, each used once.

    Raises:
        CalibrationError: the values don't fit together.
    """

    PART: ClassVar[str]
    """The part of a mode that is calibrated."""
    FIX: ClassVar[str]
    """How to make such a calibration."""
    WORDS: ClassVar[Words]

    chosen: int | None
    risk: Share
    criterion: Criterion
    rule: Rule
    tried: tuple[TriedSetting, ...]
    mode: str
    suite: str
    episodes: Annotated[int, within(1, MOST_EPISODES)]
    model_fingerprint: str
    created: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, float] = field(default_factory=dict)
    starts: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        """Checks the values and raises CalibrationError if they don't fit together."""
        try:
            check_fields(self)
            if problem := self._problem():
                raise ValueError(problem)
        except ValueError as error:
            raise CalibrationError(f"a calibration whose {error}; {self.FIX}") from error

    @property
    @abstractmethod
    def length(self) -> int:
        """Number of settings of the path."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What determines the losses along the path, beside criterion and settings of the mode."""

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
        """Whether steps of a task, given by its normalised instruction, need not be decoded."""
        return not self.tasks or self.tasks.get(task, 1.0) <= self.risk

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

    def at(self: _Path, setting: int) -> _Path:
        """Returns the same path with another setting chosen, as a calibration run uses it."""
        return replace(self, chosen=setting)

    def check(self, **used: str) -> None:
        """Checks that this calibration was made for parts.

        Args:
            used: what is in use: ``model_fingerprint``, ``database_id``.

        Raises:
            CalibrationError: it was made for others.
        """
        for name, other in used.items():
            own, what = getattr(self, name), name.partition("_")[0]
            if own != other:
                raise CalibrationError(
                    f"the calibration of {self.created} is of the {what} {own[:12]}, but the "
                    f"{what} in use is {other[:12]}: it was rebuilt or replaced since; {self.FIX}"
                )

    def differences(self, mode: ModeSettings) -> list[str]:
        """Returns the decisive settings in which a mode differs from the one that ran."""
        own, used = dict(self.settings), mode.decisive()
        for name in self._free():
            own.pop(name, None), used.pop(name, None)
        return [
            f"{name} is {used.get(name)!r}, calibrated was {own.get(name)!r}"
            for name in sorted({*own, *used})
            if own.get(name) != used.get(name)
        ]

    def check_mode(self, mode: ModeSettings) -> None:
        """Checks that this calibration was made with every decisive setting of a mode.

        Raises:
            CalibrationError: settings differ; the message names them.
        """
        if differ := self.differences(mode):
            raise CalibrationError(
                f"the calibration of {self.created} is of other settings than the mode's: "
                f"{'; '.join(differ)}; {self.FIX} with this mode"
            )

    def save(self, folder: str | Path) -> Path:
        """Writes ``calibration.json`` into a folder atomically."""
        path = Path(folder) / FILE
        derived = {"mode_hash": self.mode_hash, "guarantee": self.guarantee}
        values = {"format": FORMAT, "part": self.PART, **asdict(self), **derived}
        replace_text(path, json.dumps(values, indent=2) + "\n")
        return path

    @classmethod
    def read(cls: type[_Path], folder: str | Path) -> _Path:
        """Reads the calibration of a folder.

        Raises:
            CalibrationError: there is none, it is damaged, or it is of another part of a mode.
        """
        path, fix = Path(folder) / FILE, cls.FIX
        if not path.exists():
            raise CalibrationError(f"no calibration {path}; {fix}")
        values = read_object(path, lambda problem: CalibrationError(f"{problem}; {fix}"))
        try:
            return cls._from_dict(values)
        except ValueError as error:
            raise CalibrationError(f"{path} is no calibration: {error}; {fix}") from error
        except CalibrationError as error:
            raise CalibrationError(f"{path}: {error}") from error

    @classmethod
    def _from_dict(cls: type[_Path], values: dict[str, Any]) -> _Path:
        if values.get("format") != FORMAT:
            found = shown(values.get("format"))
            raise ValueError(f"format is {found}; accepted: {FORMAT}, that of this version")
        # Files of before there were other parts name none.
        if (part := values.get("part", "skip")) != cls.PART:
            raise ValueError(f"part is {shown(part)}; accepted: {cls.PART!r}")
        known = {entry.name for entry in fields(cls)}
        given = {name: value for name, value in values.items() if name in known}
        read = typed(cls, given)
        if values.get("mode_hash") != read.mode_hash:
            raise ValueError("mode_hash is not that of its settings")
        return read

    def _free(self) -> tuple[str, ...]:
        """Names of settings in which modes may differ, since the path decides them."""
        return ()

    def _problem(self) -> str:
        """What does not fit together, if anything does not."""
        if self.chosen is not None and not 0 <= self.chosen < self.length:
            return f"chosen setting {self.chosen!r} is outside the path of {self.length}"
        ran = [tried.episodes for tried in self.tried]
        if not all(0 < n <= self.episodes for n in ran):
            return f"episodes are {self.episodes} planned and {ran} run (no more run than planned)"
        return ""

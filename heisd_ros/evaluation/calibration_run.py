"""The walk from strict to loose settings, stored in a file so that it can be resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from heisd_ros.decoding.calibrated_path import CalibratedPath, TriedSetting
from heisd_ros.decoding.conformal import choose, least_bound, least_episodes
from heisd_ros.errors import CalibrationError
from heisd_ros.evaluation.calibration_episodes import EpisodeLoss
from heisd_ros.evaluation.calibration_losses import LossTable, header_of, tried_of
from heisd_ros.evaluation.starts import Start

FILE = "calibration_run.json"
NO_TASKS: Mapping[int, str] = MappingProxyType({})


class CalibrationRun:
    """Tracks which episodes have run at which setting, and which are pending.

    Settings are tried from the strictest on; the first whose bound exceeds the risk, or is certain
    to, ends the walk.

    Args:
        candidate: Path, risk, rule and number of episodes; nothing chosen yet.
        file: File of the losses; the run resumes from it.
        provenance: What else decides the losses, for instance the mode's settings: a run with
            another one is another run.

    Raises:
        CalibrationError: Too few episodes for the risk, or the file is damaged or another run's.
    """

    def __init__(
        self, candidate: CalibratedPath, file: Path, provenance: Mapping[str, Any]
    ) -> None:
        least = least_episodes(candidate.risk)
        if candidate.episodes < least:
            raise CalibrationError(
                f"{candidate.episodes} episodes cannot show a risk of {candidate.risk:.1%}; "
                f"at least {least} are needed, and several times as many are useful"
            )
        self.candidate = candidate
        self._losses = LossTable(file, header_of(candidate, provenance), range(candidate.length))

    def pending(self) -> list[tuple[int, int]]:
        """Returns setting and number of the next episodes, all of one setting; empty at the end."""
        setting = self._undecided()
        if setting is None:
            return []
        done = self._losses[setting]
        return [(setting, e) for e in range(self.candidate.episodes) if e not in done]

    def add(self, setting: int, episode: int, loss: EpisodeLoss) -> None:
        """Adds the outcome of one episode to the file."""
        self._losses.add(setting, episode, loss)

    def fails(self, setting: int) -> bool:
        """Whether a setting exceeds the risk, or must, whatever the missing episodes give."""
        least = least_bound(self._counted(setting), self.candidate.episodes)
        return least > self.candidate.risk

    def result(
        self, plan: Sequence[Start] = (), instructions: Mapping[int, str] = NO_TASKS
    ) -> CalibratedPath:
        """Returns the calibration of the finished walk.

        Args:
            plan: how the episodes start, in order.
            instructions: of the tasks in it, normalised.

        Raises:
            CalibrationError: Episodes are still to be run.
        """
        if self.pending():
            raise CalibrationError("episodes are still to be run")
        tried = tuple(
            self._tried(setting)
            for setting in self._settings
            if all(not self.fails(stricter) for stricter in range(setting))
        )
        chosen = choose([setting.bound for setting in tried], self.candidate.risk)
        episodes = plan[: self.candidate.episodes]
        return replace(
            self.candidate,
            chosen=chosen,
            tried=tried,
            tasks={} if chosen is None else self._by_task(chosen, episodes, instructions),
            starts=tuple(astuple(episode) for episode in episodes),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    @property
    def _settings(self) -> range:
        return range(self.candidate.length)

    def _undecided(self) -> int | None:
        """Returns the current setting of the walk; None if it has ended."""
        for setting in self._settings:
            if self.fails(setting):
                return None
            if any(
                episode not in self._losses[setting] for episode in range(self.candidate.episodes)
            ):
                return setting
        return None

    def _counted(self, setting: int) -> list[float]:
        """Returns the losses of a setting's episodes so far, as the rule counts them."""
        episodes = [e for e in self._losses[setting] if e < self.candidate.episodes]
        first = 0 if self.candidate.rule == "path_maximum" else setting
        return [max(self._loss(s, e) for s in range(first, setting + 1)) for e in episodes]

    def _loss(self, setting: int, episode: int) -> float:
        return self._losses[setting][episode].loss(self.candidate.criterion)

    def _by_task(
        self, setting: int, plan: Sequence[Start], instructions: Mapping[int, str]
    ) -> dict[str, float]:
        """Returns the mean loss of each task's episodes at a setting."""
        losses: dict[str, list[float]] = {}
        for number, episode in enumerate(plan):
            of_task = losses.setdefault(instructions[episode.task_index], [])
            of_task.append(self._loss(setting, number))
        return {task: float(np.mean(values)) for task, values in losses.items()}

    def _tried(self, setting: int) -> TriedSetting:
        rows = [row for e, row in self._losses[setting].items() if e < self.candidate.episodes]
        return tried_of(
            rows,
            float(np.mean([row.loss(self.candidate.criterion) for row in rows])),
            least_bound(self._counted(setting), self.candidate.episodes),
        )

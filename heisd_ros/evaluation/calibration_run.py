"""The walk from strict to loose settings, kept in a file so that it can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from heisd_ros.decoding.calibration import Calibration, TriedSetting
from heisd_ros.decoding.conformal import choose, least_bound, least_episodes
from heisd_ros.errors import CalibrationError
from heisd_ros.evaluation.calibration import CalibrationEpisode, EpisodeLoss
from heisd_ros.files.atomic import replace_text
from heisd_ros.files.bounded import read_object

FILE = "calibration_run.json"
NO_TASKS: Mapping[int, str] = MappingProxyType({})
_COLUMNS = ("setting", "episode", *(field.name for field in fields(EpisodeLoss)))


class CalibrationRun:
    """Which episodes have run at which setting, and which are to come.

    Settings are tried from the strictest on; the first whose bound exceeds the risk, or is certain
    to, ends the walk.

    Args:
        candidate: Path, risk, rule and number of episodes; nothing chosen yet.
        file: Where losses are kept; what it holds is resumed.
        provenance: What else decides the losses, for instance the mode's settings: a run with
            another one is another run.

    Raises:
        CalibrationError: Too few episodes for the risk, or the file is damaged or another run's.
    """

    def __init__(self, candidate: Calibration, file: Path, provenance: Mapping[str, Any]) -> None:
        least = least_episodes(candidate.risk)
        if candidate.episodes < least:
            raise CalibrationError(
                f"{candidate.episodes} episodes cannot show a risk of {candidate.risk:.1%}; "
                f"at least {least} are needed, and several times as many are useful"
            )
        self.candidate = candidate
        self._file = file
        # Through JSON, as it will be read back.
        self._header = json.loads(
            json.dumps(
                {
                    "database_id": candidate.database_id,
                    "model_fingerprint": candidate.model_fingerprint,
                    "suite": candidate.suite,
                    "similarity": candidate.similarity,
                    "dispersion": candidate.dispersion,
                    "criterion": candidate.criterion,
                    "provenance": dict(provenance),
                }
            )
        )
        self._losses: list[dict[int, EpisodeLoss]] = [{} for _ in candidate.similarity]
        if file.exists():
            self._read()

    def pending(self) -> list[tuple[int, int]]:
        """Setting and number of the episodes to run next, all of one setting; empty at the end."""
        setting = self._undecided()
        if setting is None:
            return []
        done = self._losses[setting]
        return [(setting, e) for e in range(self.candidate.episodes) if e not in done]

    def add(self, setting: int, episode: int, loss: EpisodeLoss) -> None:
        """Takes the outcome of one episode and writes it down."""
        self._losses[setting][episode] = loss
        rows = [
            [s, e, *astuple(row)]
            for s, losses in enumerate(self._losses)
            for e, row in sorted(losses.items())
        ]
        text = json.dumps({"run": self._header, "columns": _COLUMNS, "losses": rows})
        replace_text(self._file, text + "\n")

    def fails(self, setting: int) -> bool:
        """Whether a setting exceeds the risk, or will whatever its missing episodes bring."""
        least = least_bound(self._counted(setting), self.candidate.episodes)
        return least > self.candidate.risk

    def result(
        self, plan: Sequence[CalibrationEpisode] = (), instructions: Mapping[int, str] = NO_TASKS
    ) -> Calibration:
        """The calibration that the finished walk gives.

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
            for setting in range(len(self._losses))
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

    def _undecided(self) -> int | None:
        """The setting at which the walk stands; None where it has ended."""
        for setting, losses in enumerate(self._losses):
            if self.fails(setting):
                return None
            if any(episode not in losses for episode in range(self.candidate.episodes)):
                return setting
        return None

    def _counted(self, setting: int) -> list[float]:
        """Losses of a setting's episodes so far, as the rule counts them."""
        episodes = [e for e in self._losses[setting] if e < self.candidate.episodes]
        first = 0 if self.candidate.rule == "path_maximum" else setting
        return [max(self._loss(s, e) for s in range(first, setting + 1)) for e in episodes]

    def _loss(self, setting: int, episode: int) -> float:
        return self._losses[setting][episode].loss(self.candidate.criterion)

    def _by_task(
        self, setting: int, plan: Sequence[CalibrationEpisode], instructions: Mapping[int, str]
    ) -> dict[str, float]:
        """Mean loss of each task's episodes at a setting."""
        losses: dict[str, list[float]] = {}
        for number, episode in enumerate(plan):
            of_task = losses.setdefault(instructions[episode.task_index], [])
            of_task.append(self._loss(setting, number))
        return {task: float(np.mean(values)) for task, values in losses.items()}

    def _tried(self, setting: int) -> TriedSetting:
        rows = [row for e, row in self._losses[setting].items() if e < self.candidate.episodes]
        criterion = self.candidate.criterion
        steps = sum(row.steps for row in rows)
        skipped = sum(row.skipped for row in rows)
        return TriedSetting(
            loss=float(np.mean([row.loss(criterion) for row in rows])),
            bound=least_bound(self._counted(setting), self.candidate.episodes),
            disagreement=sum(row.broken for row in rows) / max(skipped, 1),
            episode_disagreement=float(np.mean([row.disagreement for row in rows])),
            skip_rate=skipped / max(steps, 1),
            retrieved_rate=sum(row.retrieved for row in rows) / max(steps, 1),
            success_rate=sum(row.success for row in rows) / len(rows),
            episodes=len(rows),
        )

    def _read(self) -> None:
        values = read_object(self._file, lambda text: CalibrationError(f"{text}; delete it"))
        try:
            held = values["run"]
            other = [name for name, value in self._header.items() if held[name] != value]
            if not other:
                for setting, episode, *row in values["losses"]:
                    self._losses[setting][episode] = EpisodeLoss(*row)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise CalibrationError(f"{self._file} is damaged: {error!r}; delete it") from error
        if other:
            raise CalibrationError(
                f"{self._file} holds a calibration with another {', '.join(other)}; delete it to "
                "start over"
            )

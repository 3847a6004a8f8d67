"""Losses of a calibration's episodes by setting and number, in a file, so that runs resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np

from heisd_ros.decoding.calibrated_path import CalibratedPath, TriedSetting
from heisd_ros.errors import CalibrationError
from heisd_ros.evaluation.calibration_episodes import EpisodeLoss
from heisd_ros.files.atomic import replace_text
from heisd_ros.files.bounded import read_object

BASE = -1
"""Setting of the plain loop's episodes, if a calibration runs them."""
_COLUMNS = ("setting", "episode", *(field.name for field in fields(EpisodeLoss)))


class LossTable:
    """Losses that are written to a file as they come.

    Args:
        file: The file; a run resumes from it.
        header: What determines the losses: a file with a different one is of another run.
        settings: Numbers of the settings.

    Raises:
        CalibrationError: The file is damaged or another run's.
    """

    def __init__(self, file: Path, header: Mapping[str, Any], settings: range) -> None:
        self._file = file
        # Through JSON, as it is read back.
        self._header = json.loads(json.dumps(header))
        self._losses: dict[int, dict[int, EpisodeLoss]] = {setting: {} for setting in settings}
        if file.exists():
            self._read()

    def __getitem__(self, setting: int) -> Mapping[int, EpisodeLoss]:
        """Losses of a setting by the number of the episode."""
        return self._losses[setting]

    def add(self, setting: int, episode: int, loss: EpisodeLoss) -> None:
        """Adds the outcome of one episode and writes the file atomically."""
        self._losses[setting][episode] = loss
        rows = [
            [s, e, *astuple(row)]
            for s, losses in self._losses.items()
            for e, row in sorted(losses.items())
        ]
        text = json.dumps({"run": self._header, "columns": _COLUMNS, "losses": rows})
        replace_text(self._file, text + "\n")

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


def header_of(candidate: CalibratedPath, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what determines the losses of a walk along a candidate's path.

    Args:
        candidate: The calibration, without a chosen setting.
        provenance: What else determines them, for instance the mode's settings.
    """
    return {
        **candidate.identity,
        "criterion": candidate.criterion,
        "provenance": dict(provenance),
    }


def tried_of(rows: list[EpisodeLoss], loss: float, bound: float, **counts: int) -> TriedSetting:
    """Summarises the episodes of one setting, see `TriedSetting`."""
    steps, skipped = sum(row.steps for row in rows), sum(row.skipped for row in rows)
    return TriedSetting(
        loss=loss,
        bound=bound,
        disagreement=sum(row.broken for row in rows) / max(skipped, 1),
        episode_disagreement=float(np.mean([row.disagreement for row in rows])),
        skip_rate=skipped / max(steps, 1),
        retrieved_rate=sum(row.retrieved for row in rows) / max(steps, 1),
        success_rate=sum(row.success for row in rows) / len(rows),
        episodes=len(rows),
        **counts,
    )

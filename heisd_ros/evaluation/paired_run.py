"""The walk along a path of run lengths, each compared with the plain loop from the same starts.

The path is written down before anything is run. A run length is tested pair by pair in the order of
the draw, in blocks, so that a test which ends early saves episodes; the next one is tested only
after it passed. At the end the longest that passed runs all pairs that were planned, since the
gates of the tasks need them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from datetime import datetime, timezone
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.decoding.calibration import Calibration, TriedSetting
from heisd_ros.errors import CalibrationError
from heisd_ros.evaluation.calibration_episodes import EpisodeLoss
from heisd_ros.evaluation.calibration_losses import BASE, LossTable, header_of, tried_of
from heisd_ros.evaluation.calibration_run import NO_TASKS
from heisd_ros.evaluation.paired import excess_failures, fixed_sequence, upper_bound, wealth
from heisd_ros.evaluation.starts import Start

FILE = "calibration_pairs.json"
RUNS = (1, 2, 3, 5, 10)
"""Skips in a row, the default path."""
LEVEL = 0.9
"""Level of the thresholds (`calibration_episodes.path_of`) at which run lengths are tested."""
BLOCK = 40
"""Number of pairs that are run between two tests."""


class PairedRun:
    """Tracks which pairs have run at which run length, and which are pending.

    Args:
        candidate: Path of `runs`, risk (the margin), delta and number of pairs; nothing chosen yet.
        file: File of the outcomes; the run resumes from it.
        provenance: What else decides the outcomes: a run with another one is another run.

    Raises:
        CalibrationError: Too few pairs for the margin, or the file is damaged or another run's.
    """

    def __init__(self, candidate: Calibration, file: Path, provenance: Mapping[str, Any]) -> None:
        least = least_pairs(candidate.risk, candidate.delta)
        if candidate.episodes < least:
            raise CalibrationError(
                f"{candidate.episodes} pairs cannot show an excess below {candidate.risk:.1%}; at "
                f"least {least} are needed without any difference, several times as many with some"
            )
        self.candidate = candidate
        settings = range(BASE, len(candidate.runs))
        self._losses = LossTable(file, header_of(candidate, provenance), settings)

    def pending(self) -> list[tuple[int, int]]:
        """Returns setting (`BASE`: the plain loop) and number of the next episodes, if any."""
        setting = self._undecided()
        if setting is None:
            setting = self._chosen()
        if setting is None:
            return []
        pair = (BASE, setting)
        missing = [
            number
            for number in range(self.candidate.episodes)
            if any(number not in self._losses[each] for each in pair)
        ]
        return [
            (each, number)
            for number in missing[:BLOCK]
            for each in pair
            if number not in self._losses[each]
        ]

    def add(self, setting: int, episode: int, loss: EpisodeLoss) -> None:
        """Adds the outcome of one episode to the file."""
        self._losses.add(setting, episode, loss)

    def fails(self, setting: int) -> bool:
        """Returns false: which pairs of a block count must not depend on their outcomes."""
        return False

    def result(
        self, plan: Sequence[Start] = (), instructions: Mapping[int, str] = NO_TASKS
    ) -> Calibration:
        """Returns the calibration of the finished walk; arguments are `CalibrationRun.result`'s.

        Raises:
            CalibrationError: Pairs are still to be run.
        """
        if self.pending():
            raise CalibrationError("pairs are still to be run")
        chosen, starts = self._chosen(), plan[: self.candidate.episodes]
        tested = range(0 if chosen is None else chosen + 1)
        last = tested.stop < len(self.candidate.runs)  # the one that ended the walk
        return replace(
            self.candidate,
            chosen=chosen,
            tried=tuple(self._tried(setting) for setting in range(tested.stop + last)),
            tasks={} if chosen is None else self._by_task(chosen, starts, instructions),
            starts=tuple(astuple(start) for start in starts),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def _undecided(self) -> int | None:
        """Returns the current setting of the walk; None if it has ended."""
        for setting in range(len(self.candidate.runs)):
            if self._passed(setting):
                continue
            whole = len(self._differences(setting)) == self.candidate.episodes
            return None if whole else setting
        return None

    def _passed(self, setting: int) -> bool:
        grown = wealth(self._differences(setting), self.candidate.risk)
        return bool((grown >= 1.0 / self.candidate.delta).any())

    def _chosen(self) -> int | None:
        path = [self._differences(setting) for setting in range(len(self.candidate.runs))]
        return fixed_sequence(path, self.candidate.risk, self.candidate.delta)

    def _numbers(self, setting: int) -> list[int]:
        """Returns the pairs that have run, in order of the draw, up to the first missing one."""
        both = self._losses[BASE].keys() & self._losses[setting].keys()
        return list(takewhile(both.__contains__, range(self.candidate.episodes)))

    def _differences(self, setting: int) -> NDArray[np.int64]:
        """Returns D of each pair at a setting."""
        numbers = self._numbers(setting)
        return excess_failures(
            [self._losses[setting][number].success for number in numbers],
            [self._losses[BASE][number].success for number in numbers],
        )

    def _by_task(
        self, setting: int, plan: Sequence[Start], instructions: Mapping[int, str]
    ) -> dict[str, float]:
        """Returns the mean excess of each task's pairs at a setting."""
        found: dict[str, list[int]] = {}
        for start, difference in zip(plan, self._differences(setting), strict=True):
            found.setdefault(instructions[start.task_index], []).append(int(difference))
        return {task: float(np.mean(values)) for task, values in found.items()}

    def _tried(self, setting: int) -> TriedSetting:
        found = self._differences(setting)
        return tried_of(
            [self._losses[setting][number] for number in self._numbers(setting)],
            float(found.mean()),
            upper_bound(found, self.candidate.delta),
            won=int((found < 0).sum()),
            lost=int((found > 0).sum()),
        )


def least_pairs(margin: float, delta: float) -> int:
    """Returns the fewest pairs that can show an excess below the margin: all of them equal."""
    most = 10_000
    shown = wealth(np.zeros(most), margin) >= 1.0 / delta
    return int(np.argmax(shown)) + 1 if shown.any() else most

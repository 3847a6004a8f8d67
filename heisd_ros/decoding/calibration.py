"""What a calibration of skipping found, and ``calibration.json`` in a database's folder."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from heisd_ros.decoding.calibrated_path import FILE as FILE
from heisd_ros.decoding.calibrated_path import FORMAT as FORMAT
from heisd_ros.decoding.calibrated_path import CalibratedPath, Share
from heisd_ros.decoding.calibrated_path import Criterion as Criterion
from heisd_ros.decoding.calibrated_path import TriedSetting as TriedSetting
from heisd_ros.decoding.guarantee import Words, guarantee_of_pairs
from heisd_ros.files.typed import within

RUN_SETTING = "skip.max_consecutive"
FIX = "run `heisd calibrate DATABASE`"


@dataclass(frozen=True, kw_only=True)
class Calibration(CalibratedPath):
    """A path of thresholds of skipping, see `CalibratedPath`.

    Attributes:
        similarity: least similarity of each setting, falling.
        dispersion: greatest dispersion of each setting, bins, rising.
        k: entries retrieved in the calibration; dispersion depends on it.
        max_consecutive: skips in a row that the calibration allowed.
        clearance: least number of control steps to a change of the gripper.
        speed: least speed of the end effector, m/s.
        database_id: the database whose neighbours were judged.
        runs: skips in a row that each setting allows, rising; empty: `max_consecutive` at all.
        delta: chance that a setting passes by ``excess`` although its excess is the risk or more.

    Raises:
        CalibrationError: the values don't fit together.
    """

    PART, FIX = "skip", FIX
    WORDS = Words(
        nothing="nothing is skipped",
        loses="leave the tolerance around the VLA's own action, of its skipped steps",
        were="were skipped",
        gate="are not skipped in",
        parts="model, database and settings",
    )

    similarity: tuple[float, ...]
    dispersion: tuple[float, ...]
    k: Annotated[int, within(1)]
    max_consecutive: Annotated[int, within(1)]
    clearance: Annotated[int, within(0)]
    speed: Annotated[float, within(0)]
    database_id: str
    runs: tuple[int, ...] = ()
    delta: Share = 0.1

    @property
    def length(self) -> int:
        """Number of settings of the path."""
        return len(self.similarity)

    @property
    def identity(self) -> dict[str, Any]:
        """See `CalibratedPath.identity`."""
        return {
            "database_id": self.database_id,
            "model_fingerprint": self.model_fingerprint,
            "suite": self.suite,
            "similarity": self.similarity,
            "dispersion": self.dispersion,
            **({"runs": self.runs} if self.runs else {}),
        }

    def longest_run(self, setting: int | None, most: int) -> int:
        """Returns how many skips in a row a setting allows, of at most `most` that the mode has.

        With a path of runs it is one of those that were measured: the greatest up to that of the
        setting and up to `most`; 0 if there is none.
        """
        if not self.runs or setting is None:
            return most
        return max((run for run in self.runs[: setting + 1] if run <= most), default=0)

    @property
    def guarantee(self) -> str:
        """See `CalibratedPath.guarantee`."""
        return guarantee_of_pairs(self) if self.criterion == "excess" else super().guarantee

    @classmethod
    def load(cls, folder: str | Path, database_id: str, model_fingerprint: str) -> Calibration:
        """Reads a database's calibration.

        Raises:
            CalibrationError: there is none, it is damaged, or it was made for another database or
                model.
        """
        calibration = cls.read(folder)
        calibration.check(database_id=database_id, model_fingerprint=model_fingerprint)
        return calibration

    def _free(self) -> tuple[str, ...]:
        # Runs were part of the path, and `longest_run` allows only those that were measured.
        return (RUN_SETTING,) if self.runs else ()

    def _problem(self) -> str:
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
        if self.runs and (
            len(self.runs) != count
            or self.runs[0] < 1
            or any(b <= a for a, b in pairwise(self.runs))
        ):
            return f"runs {self.runs} are not {count} rising numbers from 1 on"
        return super()._problem()

"""How long reasonings may be kept, by a calibration: ``calibration.json`` beside the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from heisd_ros.decoding.boundary import Boundary
from heisd_ros.decoding.calibrated_path import CalibratedPath
from heisd_ros.decoding.guarantee import Words
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.kinematics.metric import MetricBounds

FIX = "run `heisd calibrate CHECKPOINT --mode MODE`"
COUNTED = (1, 2, 3, 4, 6, 8, 12)
"""Steps in a row of modes that count, the path. It is fixed before anything is measured."""
MEASURED = ((1, 0.4), (2, 0.25), (4, 0.15))
"""Steps in a row, and the boundary of the metric, of modes that go by the motion: the path."""


@dataclass(frozen=True, kw_only=True)
class ReasoningCalibration(CalibratedPath):
    """A path of how long a reasoning is kept, see `CalibratedPath`.

    The action of a step that kept one is compared with that behind a fresh reasoning.

    Attributes:
        steps: steps in a row that keep a reasoning in each setting, at most; not falling.
        boundary: the boundary of the metric above which one is kept, in each setting; not rising.
            Empty: the mode does not go by the metric.
        scale: the bounds of the metric, as text; empty where it is not used.

    Raises:
        CalibrationError: the values don't fit together.
    """

    PART = "reasoning"
    FIX = FIX
    WORDS = Words(
        nothing="no reasoning is kept",
        loses="leave the tolerance around the action behind a fresh reasoning, of its steps that "
        "kept one",
        were="kept a reasoning",
        gate="keep none",
        parts="model, bounds of the metric and settings",
    )

    steps: tuple[int, ...]
    boundary: tuple[float, ...] = ()
    scale: str = ""

    @classmethod
    def load(cls, folder: str | Path, model_fingerprint: str) -> ReasoningCalibration:
        """Reads a checkpoint's calibration.

        Raises:
            CalibrationError: there is none, it is damaged, or it was made for another model.
        """
        calibration = cls.read(folder)
        calibration.check(model_fingerprint=model_fingerprint)
        return calibration

    @property
    def length(self) -> int:
        """Number of settings of the path."""
        return len(self.steps)

    @property
    def identity(self) -> dict[str, Any]:
        """See `CalibratedPath.identity`."""
        return {
            "model_fingerprint": self.model_fingerprint,
            "suite": self.suite,
            "steps": self.steps,
            "boundary": self.boundary,
            "scale": self.scale,
        }

    @property
    def refusal(self) -> str:
        """Why no reasoning is kept where no setting was chosen."""
        return f"no calibrated setting keeps the risk of {self.risk:.1%}"

    def fits(self, mode: ModeSettings, bounds: MetricBounds | None) -> bool:
        """Whether it was made with a mode's settings and these bounds of the metric."""
        return not self.differences(mode) and self.scale == scale_of(mode, bounds)

    def limit(self, mode: ModeSettings) -> Boundary | None:
        """Makes the boundary of the chosen setting; None where the mode does not go by the metric.

        Raises:
            ModeError: the mode's hysteresis is as wide as that boundary.
        """
        if not self.boundary or self.chosen is None:
            return None
        return Boundary(self.boundary[self.chosen], mode.boundary.hysteresis)

    def _problem(self) -> str:
        count = len(self.steps)
        if not count or len(self.tried) > count or len(self.boundary) not in (0, count):
            return (
                f"path has {count} numbers of steps, {len(self.boundary)} boundaries and "
                f"{len(self.tried)} measurements"
            )
        if self.steps[0] < 1 or any(b < a for a, b in pairwise(self.steps)):
            return f"steps {self.steps} fall, or are not from 1 on"
        if any(b > a for a, b in pairwise(self.boundary)):
            return f"boundaries rise: {self.boundary}"
        if self.criterion == "excess":
            return "criterion is 'excess'; accepted: 'disagreement', 'failure'"
        return super()._problem()


def path_of_keeping(mode: ModeSettings) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Returns steps and boundaries of the path of a mode, strict to loose."""
    if mode.reasoning.keep != "motion":
        return COUNTED, ()
    return tuple(steps for steps, _ in MEASURED), tuple(limit for _, limit in MEASURED)


def scale_of(mode: ModeSettings, bounds: MetricBounds | None) -> str:
    """Returns what a calibration holds of the metric's bounds, see `ReasoningCalibration.scale`."""
    return bounds.to_json() if bounds is not None and mode.reasoning.keep == "motion" else ""

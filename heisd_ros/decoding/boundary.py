"""Where the kinematic metric parts retrieval from drafting, without chatter."""

from __future__ import annotations

from typing import NamedTuple

from heisd_ros.kinematics.metric import MetricSample


class Zone(NamedTuple):
    """Which proposer the motion asks for.

    Attributes:
        retrieval: true: fast and straight, the database drafts; false: slow or curved.
        reason: for a reader of the telemetry.
    """

    retrieval: bool
    reason: str


class Boundary:
    """The hybrid's switch, with memory: F has to pass the boundary clearly to change the zone.

    Args:
        value: the boundary, a value of F in [0, 1].
        hysteresis: how far F has to pass it.
    """

    def __init__(self, value: float, hysteresis: float) -> None:
        self.value, self.hysteresis = value, hysteresis
        self._retrieval = False

    def reset(self) -> None:
        """Starts on the careful side again."""
        self._retrieval = False

    def update(self, motion: MetricSample | None) -> Zone:
        """Takes the metric of one control step."""
        if motion is None or not motion.ready:
            self._retrieval = False
            return Zone(False, "no metric" if motion is None else "metric window is not full")
        threshold = self.value + (-self.hysteresis if self._retrieval else self.hysteresis)
        # At either end of the scale there is nothing beyond the boundary to reach.
        self._retrieval = motion.value >= min(max(threshold, 0.0), 1.0)
        sign = ">=" if self._retrieval else "<"
        return Zone(self._retrieval, f"F {motion.value:.2f} {sign} {threshold:.2f}")

"""The boundary of the kinematic metric between retrieval and drafting, with hysteresis."""

from __future__ import annotations

from typing import NamedTuple

from heisd_ros.errors import ModeError
from heisd_ros.kinematics.metric import MetricSample

AT_REST = 0.02
"""The greatest F of an arm at rest, by any kind of the metric. With noise of 0.1 mm and 2 mm/s the
95th percentiles are 0.006 (paper), 0.004 (legacy) and 0.015 (speed)."""


class Zone(NamedTuple):
    """The proposer that the current motion selects.

    Attributes:
        retrieval: true: motion is fast and straight, so the database drafts; false: it is slow or
            curved.
        reason: explanation for the telemetry.
    """

    retrieval: bool
    reason: str


class Boundary:
    """Switches the hybrid between its zones; F must pass the boundary by the hysteresis.

    Args:
        value: the boundary, a value of F in [0, 1].
        hysteresis: how far F must pass it. An arm at rest leaves the retrieval zone in any case.

    Raises:
        ModeError: the hysteresis is as wide as the boundary, so slow motion could not leave the
            retrieval zone.
    """

    def __init__(self, value: float, hysteresis: float) -> None:
        if hysteresis and not hysteresis < value:
            raise ModeError(
                f"boundary.hysteresis is {hysteresis:g}, but the boundary is at F {value:.4f}: the "
                f"retrieval zone could not be left; accepted: less than {value:.4f}"
            )
        self.value, self.hysteresis = value, hysteresis
        # F never exceeds 1, so the threshold must not either.
        self._enter = min(max(value + hysteresis, AT_REST), 1.0)
        self._leave = max(value - hysteresis, AT_REST)
        self._retrieval = False

    def reset(self) -> None:
        """Returns to the zone of slow motion."""
        self._retrieval = False

    def update(self, motion: MetricSample | None) -> Zone:
        """Updates the zone with the metric of one control step (None: unknown) and returns it."""
        if motion is None or not motion.ready:
            self._retrieval = False
            return Zone(False, "no metric" if motion is None else "metric window is not full")
        threshold = self._leave if self._retrieval else self._enter
        self._retrieval = motion.value >= threshold
        sign = ">=" if self._retrieval else "<"
        return Zone(self._retrieval, f"F {motion.value:.2f} {sign} {threshold:.2f}")

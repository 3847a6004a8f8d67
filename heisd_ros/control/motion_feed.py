"""Feeds joint states to the kinematic fused metric at the control rate. Imports no ROS."""

from __future__ import annotations

from collections import deque

from heisd_ros.control.control_grid import ControlGrid
from heisd_ros.kinematics.bounds_file import BOUNDS_FILE, load_bounds
from heisd_ros.kinematics.joint_states import ArmState
from heisd_ros.kinematics.metric import FusedMetric, MetricBounds, MetricSample

__all__ = ["BOUNDS_FILE", "MotionFeed", "load_bounds"]


class MotionFeed:
    """Feeds joint states to the metric on a grid of the control period.

    The metric's window is a number of samples at the control rate. A faster stream, such as 1 kHz,
    is downsampled; one at or below the control rate is used as it is.

    Args:
        bounds: Settings and scale of the metric.
        rate_hz: Control rate, by the header stamps.
    """

    def __init__(self, bounds: MetricBounds, rate_hz: float) -> None:
        self.kind = bounds.settings.kind
        self.latest: MetricSample | None = None
        self._stamps: deque[float] = deque(maxlen=20)
        self._metric = FusedMetric(bounds, 1.0 / rate_hz)
        self._grid = ControlGrid(rate_hz)

    def reset(self) -> None:
        """Clears the motion that was recorded so far."""
        self._metric.reset()
        self._grid.reset()
        self.latest = None
        self._stamps.clear()

    @property
    def stream_hz(self) -> float:
        """Rate of the stream by its stamps, Hz; 0 while it is not known."""
        stamps = self._stamps
        span = stamps[-1] - stamps[0] if len(stamps) > 1 else 0.0
        return (len(stamps) - 1) / span if span > 0.0 else 0.0

    def add(self, arm: ArmState, stamp_sec: float) -> MetricSample | None:
        """Adds one joint state.

        Args:
            arm: The arm's joints.
            stamp_sec: Header stamp, s.

        Returns:
            The metric's newest sample.
        """
        self._stamps.append(stamp_sec)
        if self._grid.early(stamp_sec):
            return self.latest
        self._grid.advance(stamp_sec)
        self.latest = self._metric.update(arm.tip().position, arm.tip_velocity(), stamp_sec)
        return self.latest

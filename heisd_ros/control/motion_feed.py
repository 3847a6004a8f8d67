"""Feeds joint states to the kinematic fused metric at the control rate. Imports no ROS."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from heisd_ros.control.control_grid import ControlGrid
from heisd_ros.files.bounded import expanded, naming, read_text
from heisd_ros.kinematics.joint_states import ArmState
from heisd_ros.kinematics.metric import FusedMetric, MetricBounds, MetricSample, MetricSettings
from heisd_ros.kinematics.motion import MetricKind

BOUNDS_FILE = "metric_bounds.json"


def load_bounds(kind: MetricKind, path: str, model_folder: Path) -> tuple[MetricBounds, str]:
    """Finds the metric's bounds.

    Args:
        kind: Kind of the metric.
        path: File of the bounds; empty: the one beside the checkpoint, if any.
        model_folder: Folder of the checkpoint.

    Returns:
        The bounds, and a description of where they came from.

    Raises:
        ValueError: The file is missing, not readable, or for another kind.
    """
    file = expanded(path) if path else model_folder / BOUNDS_FILE
    if not path and not file.exists():
        # A Panda under LIBERO's controller: 0.4 m/s is fast, and 15 samples at 20 Hz are 0.75 s.
        settings = MetricSettings(kind=kind)
        bounds = MetricBounds(settings, (0.0, 1.0), (0.0, 0.3), (0.0, 0.4), boundary=0.25)
        return bounds, "built-in"
    try:
        bounds = MetricBounds.from_json(read_text(file))
    except ValueError as error:
        raise ValueError(f"parameter 'metric.bounds': {naming(file, error)}") from error
    if bounds.settings.kind != kind:
        raise ValueError(
            f"parameter 'metric.kind' is {kind!r}; accepted: {bounds.settings.kind!r}, for which "
            f"{file} was computed, or another file in 'metric.bounds'"
        )
    return bounds, str(file)


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

"""The kinematic fused metric: is the arm in fast, straight motion or in slow, fine work?

HeiSD (arXiv 2603.17573): F = alpha norm(R) + (1 - alpha) norm(D) in [0, 1] over the last window of
samples, R the radius of curvature of the tip's path and D its length. F high: retrieval can be
trusted; F low: draft.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from heisd_ros.files.bounded import parse_json
from heisd_ros.files.typed import typed
from heisd_ros.kinematics.motion import (
    MetricKind,
    MetricSettings,
    Motion,
    MotionWindow,
    VelocitySource,
)

__all__ = ["FusedMetric", "MetricBounds", "MetricSample", "MetricSettings", "Trajectory"]

_RANGES = ("radius_range", "path_range", "speed_range")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The tip's motion over one episode.

    Attributes:
        positions: shape (n, 3), metres, in a fixed frame.
        stamps: shape (n,), seconds, strictly increasing.
        velocities: shape (n, 3), m/s, same frame; rows that are not finite are unknown. None where
            there are none.

    Raises:
        ValueError: shapes disagree, or stamps do not increase.
    """

    positions: np.ndarray
    stamps: np.ndarray
    velocities: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks the values; raises ValueError."""
        shape, count = np.shape(self.positions), len(self.stamps)
        if shape != (count, 3):
            raise ValueError(f"positions must have shape ({count}, 3) as stamps do, got {shape}")
        if self.velocities is not None and np.shape(self.velocities) != shape:
            raise ValueError(f"velocities must have shape {shape}, got {np.shape(self.velocities)}")
        if not (np.diff(self.stamps) > 0.0).all():
            raise ValueError("stamps must be strictly increasing and finite")


@dataclass(frozen=True)
class MetricBounds:
    """The scale of the metric and the boundary of its zones, both from demonstrations.

    They hold for the sample rate of their demonstrations: a window is a number of samples, so its
    path length grows with the period.

    Attributes:
        settings: how the metric is computed.
        radius_range: (low, high) of R, metres: mapped to 0 and 1.
        path_range: (low, high) of D, metres.
        speed_range: (low, high) of |v|, m/s.
        boundary: value of F in [0, 1] that separates retrieval (at or above it) from drafting.

    Raises:
        ValueError: a range is not 0 <= low <= high < inf, or the boundary is outside [0, 1].
    """

    settings: MetricSettings
    radius_range: tuple[float, float]
    path_range: tuple[float, float]
    speed_range: tuple[float, float]
    boundary: float

    def __post_init__(self) -> None:
        """Checks the values; raises ValueError."""
        for name in _RANGES:
            low, high = getattr(self, name)
            if not 0.0 <= low <= high < math.inf:
                raise ValueError(f"{name} must be 0 <= low <= high < inf, got {(low, high)}")
        if not 0.0 <= self.boundary <= 1.0:
            raise ValueError(f"boundary must be in [0, 1], got {self.boundary}")

    @classmethod
    def from_trajectories(
        cls,
        trajectories: Iterable[Trajectory],
        settings: MetricSettings | None = None,
        *,
        top_percentile: float = 95.0,
        boundary_percentile: float = 25.0,
    ) -> MetricBounds:
        """Takes the scale and the boundary from the full windows of demonstrations.

        Args:
            trajectories: episodes; one shorter than the window adds nothing.
            settings: how the metric is computed; None takes the defaults.
            top_percentile: percentile of R, D and |v| that maps to 1 (their minimum maps to 0).
            boundary_percentile: percentile of F, scaled so, that becomes the boundary.

        Raises:
            ValueError: no episode fills the window, or a percentile is outside [0, 100].
        """
        settings = settings or MetricSettings()
        for name, value in (
            ("top_percentile", top_percentile),
            ("boundary_percentile", boundary_percentile),
        ):
            if not 0.0 <= value <= 100.0:
                raise ValueError(f"{name} must be in [0, 100], got {value}")
        motions = [motion for episode in trajectories for motion in _full(episode, settings)]
        if not motions:
            raise ValueError(f"no trajectory has {settings.window} samples to fill the window")

        def span(values: list[float]) -> tuple[float, float]:
            return min(values), float(np.percentile(values, top_percentile))

        scale = cls(
            settings=settings,
            radius_range=span([motion.curvature_radius for motion in motions]),
            path_range=span([motion.path_length for motion in motions]),
            speed_range=span([motion.speed for motion in motions]),
            boundary=0.0,
        )
        values = [scale.fuse(motion) for motion in motions]
        return replace(scale, boundary=float(np.percentile(values, boundary_percentile)))

    def fuse(self, motion: Motion) -> float:
        """Returns F in [0, 1] for the motion over one window."""
        if self.settings.kind == "speed":
            return _normalise(motion.speed, self.speed_range)
        alpha = self.settings.alpha
        return alpha * _normalise(motion.curvature_radius, self.radius_range) + (
            1.0 - alpha
        ) * _normalise(motion.path_length, self.path_range)

    def to_json(self) -> str:
        """Returns the bounds as JSON text."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> MetricBounds:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: the text is not JSON, a key is missing or unknown, or a value is not
                accepted.
        """
        try:
            return typed(cls, parse_json(text, "the text"))
        except ValueError as error:
            raise ValueError(f"not the JSON of metric bounds: {error}") from error


@dataclass(frozen=True)
class MetricSample:
    """The metric at one sample, with its parts.

    Attributes:
        value: F in [0, 1]; 0, the side of slow motion, while not `ready`.
        path_length: D, metres.
        curvature_radius: R, metres.
        speed: |v| of the tip, m/s.
        kind: the formula in use.
        ready: whether the window is full; until then the value means nothing.
        source: `velocity`, or `position_difference` where velocities were missing or not finite.
    """

    value: float
    path_length: float
    curvature_radius: float
    speed: float
    kind: MetricKind
    ready: bool
    source: VelocitySource


class FusedMetric:
    """The fused metric of a live stream of tip positions and velocities.

    Args:
        bounds: Settings and scale.
        period: Seconds between two samples of the demonstrations that the bounds are of, where the
            stream may be another one; None: it is not. See `MotionWindow`.
    """

    def __init__(self, bounds: MetricBounds, period: float | None = None) -> None:
        self.bounds = bounds
        self._window = MotionWindow(bounds.settings, period)

    def reset(self) -> None:
        """Empties the window, as at the start of an episode."""
        self._window.reset()

    def update(
        self,
        position: Sequence[float] | np.ndarray,
        velocity: Sequence[float] | np.ndarray | None,
        stamp: float,
    ) -> MetricSample:
        """Adds one sample; arguments, restarts and errors are those of `MotionWindow.update`."""
        motion = self._window.update(position, velocity, stamp)
        return MetricSample(
            value=self.bounds.fuse(motion) if motion.ready else 0.0,
            path_length=motion.path_length,
            curvature_radius=motion.curvature_radius,
            speed=motion.speed,
            kind=self.bounds.settings.kind,
            ready=motion.ready,
            source=motion.source,
        )


def _full(episode: Trajectory, settings: MetricSettings) -> list[Motion]:
    """Returns the motion over every full window of an episode."""
    window = MotionWindow(settings)
    velocities = episode.velocities
    motions = [
        window.update(position, None if velocities is None else velocities[i], stamp)
        for i, (position, stamp) in enumerate(zip(episode.positions, episode.stamps, strict=True))
    ]
    return [motion for motion in motions if motion.ready]


def _normalise(value: float, limits: tuple[float, float]) -> float:
    """Min-max scaling clipped to [0, 1]; a range of no width is a step above its value."""
    low, high = limits
    if high <= low:
        return 1.0 if value > high else 0.0
    return min(max((value - low) / (high - low), 0.0), 1.0)

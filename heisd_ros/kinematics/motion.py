"""The tip's motion over the last few samples: path length, radius of curvature, speed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from heisd_ros.files.typed import check_fields, within
from heisd_ros.kinematics.curvature import path_radius

MetricKind = Literal["paper", "legacy", "speed"]
VelocitySource = Literal["velocity", "position_difference"]

_DEFAULT_WINDOW = {"paper": 15, "legacy": 5, "speed": 2}
_LEAST_WINDOW = {"paper": 3, "legacy": 3, "speed": 2}
MOST_WINDOW = 1000
"""Samples of the longest window: each new one takes time in proportion."""
LEAST_EXTENT = 1e-3
"""Metres: the shape of a shorter path is sensor noise or a twitch."""
_LEEWAY = 0.1
"""Share of a period by which samples jitter."""


@dataclass(frozen=True)
class MetricSettings:
    """How the fused metric is computed.

    Attributes:
        kind: `paper`: HeiSD (arXiv 2603.17573), F = alpha norm(R) + (1 - alpha) norm(D), with D the
            path length over the window. `legacy`: the same with D as in the authors' released code,
            the sum of distances from the newest point to the earlier ones (their curvature fit,
            which stalls at its start, is not repeated). `speed`: norm(|v|) alone, the baseline.
        window: samples in the window; None takes 15 (`paper`), 5 (`legacy`) or 2 (`speed`).
        alpha: weight of the radius of curvature, in [0, 1].
        max_radius: metres, > 0. A larger radius of curvature counts as this one: over a window of a
            few centimetres an arc wider than the arm's own reach is a straight line, and a larger
            cap would let straight lines set the scale of all curves.
        still_extent: metres, >= 0. A window that stays in a box of this size, or of 1 mm, has no
            shape: its radius counts as 0.
        max_gap: seconds, > 0. After a longer pause between two samples the window starts again.

    Raises:
        ValueError: a value is outside what is accepted.
    """

    kind: MetricKind = "paper"
    window: int | None = None
    alpha: Annotated[float, within(0, 1)] = 0.5
    max_radius: Annotated[float, Field(gt=0)] = 1.0
    still_extent: Annotated[float, within(0)] = 1e-4
    max_gap: Annotated[float, Field(gt=0)] = 0.5

    def __post_init__(self) -> None:
        """Checks the values, raising ValueError, and fills in the default window."""
        check_fields(self)
        least = _LEAST_WINDOW[self.kind]
        if self.window is None:
            object.__setattr__(self, "window", _DEFAULT_WINDOW[self.kind])
        elif not least <= self.window <= MOST_WINDOW:
            raise ValueError(
                f"window is {self.window}; accepted for kind {self.kind!r}: {least} to "
                f"{MOST_WINDOW}"
            )


@dataclass(frozen=True)
class Motion:
    """The parts of the metric over one window, in physical units.

    Attributes:
        path_length: D, metres (`legacy`: sum of distances, metres).
        curvature_radius: R, metres, in [0, max_radius].
        speed: |v| at the newest sample, m/s; 0 where nothing is known yet.
        ready: whether the window is full.
        source: `velocity` where every sample of the window brought a usable velocity, else
            `position_difference`: positions stood in for the missing ones.
    """

    path_length: float
    curvature_radius: float
    speed: float
    ready: bool
    source: VelocitySource


class _Sample(NamedTuple):
    # Plain numbers throughout: of so few numpy takes several times as long.
    stamp: float
    position: tuple[float, ...]
    speed: float | None


class MotionWindow:
    """The last `window` samples of the tip's motion; O(window) work a sample, no drift.

    Args:
        settings: How the metric is computed.
        period: Seconds from one sample to the next for which a window of so many is meant. Then the
            window is that time, `(window - 1) * period`, however many samples come in it: its start
            is interpolated, so a slow stream is not measured over a longer time. None: the window
            is a number of samples.
    """

    def __init__(self, settings: MetricSettings, period: float | None = None) -> None:
        self.settings = settings
        self._period = period
        self._samples: deque[_Sample] = deque(maxlen=None if period else settings.window)

    def reset(self) -> None:
        """Discards every sample, as at the start of an episode."""
        self._samples.clear()

    def update(
        self,
        position: Sequence[float] | np.ndarray,
        velocity: Sequence[float] | np.ndarray | None,
        stamp: float,
    ) -> Motion:
        """Adds one sample and returns the motion over the window that it ends.

        A repeated stamp replaces the newest sample. A stamp before it (a clock set back, a bag
        played again) or after a pause longer than `max_gap` restarts the window.

        Args:
            position: shape (3,), metres, in a frame that does not move.
            velocity: shape (3,), linear velocity in that frame, m/s; None or not finite where
                unknown.
            stamp: time of the sample, seconds.

        Raises:
            ValueError: a shape is wrong, or the position or the stamp is not finite.
        """
        array = np.asarray(position, dtype=np.float64)
        point = tuple(array.tolist())
        if array.shape != (3,) or not all(map(math.isfinite, point)):
            raise ValueError(f"position must be 3 finite numbers (m), got {position!r}")
        if not math.isfinite(stamp):
            raise ValueError(f"stamp must be a finite number of seconds, got {stamp!r}")
        sample = _Sample(float(stamp), point, _speed(velocity))

        if self._samples:
            elapsed = sample.stamp - self._samples[-1].stamp
            if elapsed == 0.0:
                self._samples.pop()
            elif not 0.0 < elapsed <= self.settings.max_gap:
                self.reset()
        self._samples.append(sample)
        return self._motion()

    def _motion(self) -> Motion:
        samples, ready = self._window()
        points = [sample.position for sample in samples]
        steps = [_step_length(a, b) for a, b in pairwise(samples)]
        newest = samples[-1].speed
        if newest is None:
            newest = 0.0
            if steps:
                newest = steps[-1] / (samples[-1].stamp - samples[-2].stamp)
        if self.settings.kind == "legacy":
            length = math.fsum(math.dist(point, points[-1]) for point in points[:-1])
            if self._period and len(points) > 1:
                length *= (self._count - 1) / (len(points) - 1)
        else:
            length = math.fsum(steps)
        return Motion(
            path_length=length,
            curvature_radius=self._radius(points),
            speed=newest,
            ready=ready,
            source=(
                "position_difference"
                if any(sample.speed is None for sample in samples)
                else "velocity"
            ),
        )

    @property
    def _count(self) -> int:
        assert self.settings.window is not None, "filled in by the settings"
        return self.settings.window

    def _window(self) -> tuple[list[_Sample], bool]:
        """Returns the samples of the window, and whether they fill it."""
        samples = self._samples
        if not self._period:
            return list(samples), len(samples) == self._count
        leeway = _LEEWAY * self._period
        start = samples[-1].stamp - (self._count - 1) * self._period
        while len(samples) > 1 and samples[1].stamp <= start + leeway:
            samples.popleft()
        first, *rest = samples
        if first.stamp < start - leeway:
            first = _between(first, rest[0], start)
        return [first, *rest], first.stamp <= start + leeway

    def _radius(self, points: Sequence[tuple[float, ...]]) -> float:
        extent = max(max(along) - min(along) for along in zip(*points, strict=True))
        if len(points) < 3 or extent <= max(self.settings.still_extent, LEAST_EXTENT):
            return 0.0
        return path_radius(np.array(points), self.settings.max_radius)


def _speed(velocity: Sequence[float] | np.ndarray | None) -> float | None:
    """Returns |v|, or None where the velocity cannot be used."""
    if velocity is None:
        return None
    vector = np.asarray(velocity, dtype=np.float64)
    if vector.shape != (3,):
        raise ValueError(f"velocity must have shape (3,) (m/s), got {vector.shape}")
    speed = math.hypot(*vector)
    return speed if math.isfinite(speed) else None


def _between(a: _Sample, b: _Sample, stamp: float) -> _Sample:
    """Returns the sample at a time between two, interpolated linearly."""
    share = (stamp - a.stamp) / (b.stamp - a.stamp)
    position = tuple(x + share * (y - x) for x, y in zip(a.position, b.position, strict=True))
    known = a.speed is not None and b.speed is not None
    return _Sample(stamp, position, a.speed + share * (b.speed - a.speed) if known else None)  # type: ignore[operator]


def _step_length(a: _Sample, b: _Sample) -> float:
    """Returns the path length between two samples: trapezoid rule on |v|, else straight line."""
    if a.speed is None or b.speed is None:
        return math.dist(a.position, b.position)
    return 0.5 * (a.speed + b.speed) * (b.stamp - a.stamp)

"""A velocity that changes smoothly: bounded acceleration and jerk, and always a stop in reserve.

Acceleration is bounded by a step towards what is wanted. Jerk is bounded by the mean of the last
N such steps: a mean of vectors within a speed and an acceleration limit stays within both, since
balls are convex, and its acceleration changes by at most 2 a / N from one tick to the next. So
N >= 2 a / (j h) bounds the jerk by j, whatever is wanted (h: the time between two ticks).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np

_BISECTIONS = 8
"""Halvings in the search for how much of a change is allowed: to 0.4% of it."""

Span = tuple[np.ndarray, np.ndarray]
"""Least and largest displacement of each axis, (3,) each, m."""
Allowed = Callable[[Span], bool]
"""Whether a motion may be begun, given its span until the arm stands again."""


class Ramp:
    """A vector of three velocities that is led to what is wanted, one tick at a time.

    It starts from rest.

    Args:
        tick_sec: Time from one tick to the next, s.
        acceleration: Largest change per second; infinite: none.
        jerk: Largest change of the acceleration per second; infinite: none.

    Raises:
        ValueError: A limit is not positive, or there is one of the jerk but not of acceleration.
    """

    def __init__(self, tick_sec: float, acceleration: float, jerk: float) -> None:
        self._tick = tick_sec
        self._recent = deque([np.zeros(3)], maxlen=1)
        self.set_limits(acceleration, jerk)

    def set_limits(self, acceleration: float, jerk: float) -> None:
        """Replaces the limits; the velocity goes on from what it is."""
        if not (self._tick > 0.0 and acceleration > 0.0 and jerk > 0.0):
            raise ValueError(
                f"tick {self._tick}, acceleration {acceleration}, jerk {jerk}; accepted: positive"
            )
        if math.isinf(acceleration) and not math.isinf(jerk):
            raise ValueError(f"jerk {jerk} without acceleration; accepted: a limit of both")
        self._change = acceleration * self._tick
        ratio = 0.0 if math.isinf(jerk) else 2.0 * acceleration / (jerk * self._tick)
        count = max(1, math.ceil(ratio - 1e-9))
        if count != len(self._recent):
            self._recent = deque([self.value] * count, maxlen=count)

    @property
    def value(self) -> np.ndarray:
        """(3,), the velocity of the newest tick."""
        return np.mean(self._recent, axis=0)

    @property
    def at_rest(self) -> bool:
        """Whether the velocity is zero and stays so while nothing else is wanted."""
        return not any(sample.any() for sample in self._recent)

    @property
    def delay_sec(self) -> float:
        """How much later a change is done because of the mean, and one tick, s."""
        return self._tick * (1.0 + (len(self._recent) - 1) / 2.0)

    def rest(self) -> None:
        """Stands at once, without a ramp."""
        self._recent.extend([np.zeros(3)] * len(self._recent))

    def step(self, wanted: np.ndarray, allowed: Allowed | None = None) -> np.ndarray:
        """Goes one tick further, as far towards what is wanted as is allowed.

        Braking straight to a stand is always allowed: it is what is done where nothing else is. So
        a motion from which the arm could not stop where it has to is never begun.

        Args:
            wanted: (3,), finite.
            allowed: Judges a motion by where the arm would come to a stand; None: all is allowed.

        Returns:
            (3,), the velocity of this tick.
        """
        now = self._recent[-1]
        brake = self._brake()
        free = _approach(now, wanted, self._change)
        share = 1.0 if allowed is None else self._share(brake, free, allowed)
        self._recent.append(free if share == 1.0 else brake + share * (free - brake))
        return self.value

    def displacement(self, velocity: np.ndarray) -> Span:
        """Where the arm would go with this as the next step and braking from the one after it.

        Args:
            velocity: (3,), before the mean is taken.

        Returns:
            Least and largest displacement from here, (3,) each, m; 0 is between them.
        """
        speed, count = float(np.linalg.norm(velocity)), len(self._recent)
        braking = math.ceil(speed / self._change - 1e-9)
        shares = np.clip(1.0 - self._change / (speed or 1.0) * np.arange(1, braking), 0.0, None)
        path = np.concatenate(
            [
                np.zeros((1, 3)),
                list(self._recent)[1:] if count > 1 else np.zeros((0, 3)),
                velocity[None],
                shares[:, None] * velocity,
                np.zeros((count - 1, 3)),
            ]
        )
        total = np.cumsum(path, axis=0)
        means = (total[count:] - total[:-count]) / count
        moved = np.cumsum(means * self._tick, axis=0)
        return np.minimum(moved.min(axis=0), 0.0), np.maximum(moved.max(axis=0), 0.0)

    def braking(self) -> Span:
        """As `displacement`, with braking from this tick on."""
        return self.displacement(self._brake())

    def _brake(self) -> np.ndarray:
        return _approach(self._recent[-1], np.zeros(3), self._change)

    def _share(self, brake: np.ndarray, free: np.ndarray, allowed: Allowed) -> float:
        """The largest share of the change from braking to what is wanted that is allowed."""
        if allowed(self.displacement(free)):
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            if allowed(self.displacement(brake + middle * (free - brake))):
                low = middle
            else:
                high = middle
        return low


def _approach(now: np.ndarray, wanted: np.ndarray, change: float) -> np.ndarray:
    """As far from `now` towards `wanted` as a change of this length goes."""
    difference = wanted - now
    distance = float(np.linalg.norm(difference))
    return wanted.copy() if distance <= change else now + difference * (change / distance)

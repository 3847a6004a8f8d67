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

Allowed = Callable[[np.ndarray], bool]
"""Whether velocities may be those of this tick, before the mean is taken."""


class Ramp:
    """A vector of three velocities that is led to what is wanted, one tick at a time.

    It starts from rest. Braking straight to a stand is always allowed: it is what is done where
    nothing else is. So a motion from which the arm could not stop where it has to is never begun
    (see `furthest`).

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

    def brake(self) -> np.ndarray:
        """(3,), this tick on the way to a stand, before the mean is taken."""
        return self.towards(np.zeros(3))

    def towards(self, wanted: np.ndarray) -> np.ndarray:
        """(3,), this tick as far towards what is wanted as may be, before the mean is taken.

        Args:
            wanted: (3,), finite.
        """
        return _approach(self._recent[-1], wanted, self._change)

    def take(self, velocity: np.ndarray) -> np.ndarray:
        """Goes one tick further.

        Args:
            velocity: (3,), of `towards`, of `brake`, or between the two.

        Returns:
            (3,), the velocity of this tick.
        """
        self._recent.append(velocity)
        return self.value

    def path(self, velocity: np.ndarray) -> np.ndarray:
        """Where the arm would go with this tick and braking from the next one on.

        Args:
            velocity: (3,), before the mean is taken.

        Returns:
            (n, 3), displacements from here after each tick until the arm stands, m.
        """
        speed, count = float(np.linalg.norm(velocity)), len(self._recent)
        braking = math.ceil(speed / self._change - 1e-9)
        shares = np.clip(1.0 - self._change / (speed or 1.0) * np.arange(1, braking), 0.0, None)
        samples = np.concatenate(
            [
                np.zeros((1, 3)),
                list(self._recent)[1:] if count > 1 else np.zeros((0, 3)),
                velocity[None],
                shares[:, None] * velocity,
                np.zeros((count - 1, 3)),
            ]
        )
        total = np.cumsum(samples, axis=0)
        means = (total[count:] - total[:-count]) / count
        return np.cumsum(means * self._tick, axis=0)


def furthest(brake: np.ndarray, free: np.ndarray, allowed: Allowed) -> np.ndarray:
    """Of the way from braking to what is wanted as much as is allowed.

    Args:
        brake: Velocities of braking, which are always allowed.
        free: Those wanted, of the same shape.
        allowed: Judges velocities between the two.
    """
    if allowed(free):
        return free
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if allowed(brake + middle * (free - brake)):
            low = middle
        else:
            high = middle
    return brake + low * (free - brake)


def _approach(now: np.ndarray, wanted: np.ndarray, change: float) -> np.ndarray:
    """As far from `now` towards `wanted` as a change of this length goes."""
    difference = wanted - now
    distance = float(np.linalg.norm(difference))
    return wanted.copy() if distance <= change else now + difference * (change / distance)

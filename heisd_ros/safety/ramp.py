"""A velocity that changes smoothly: bounded acceleration and jerk, and always a stop in reserve.

A velocity and its acceleration determine a goal: the velocity that is reached when the acceleration
fades as quickly as the jerk allows. The goal moves straight towards the wanted velocity, each tick
as far as acceleration and jerk permit. The paths of the velocity to its goal and of the goal are
straight, so a velocity that starts within a speed limit stays within it. Only velocity and
acceleration are stored, so limits may change at any tick.

Each tick also plans a stop: the acceleration fades, then a ramp leads to zero. Sequences of
velocities within limits are a convex set. So every mixture of the stop planned before and of the
motion to the wanted velocity, stop included, is within the limits too; see `furthest`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

_BISECTIONS = 10
"""Bisections in the search for the allowed share of a change, which give it to 0.1%."""
_LONGEST = 10_000
"""Greatest number of ticks of a planned stop; a longer one is planned harder than the limits."""
_ROUND_OFF = 1e-9

Allowed = Callable[[np.ndarray], bool]
"""Whether the arm may move with these velocities, one row per tick until it stops."""


class Ramp:
    """A vector of k velocities that follows the wanted one, one tick at a time.

    It starts from rest. The stop that was planned at the previous tick is always allowed and is
    executed if nothing else is. So a motion from which the arm could not stop in time is never
    started (see `furthest`).

    Args:
        tick_sec: Time from one tick to the next, s.
        acceleration: Largest change per second; infinite: none.
        jerk: Largest change of the acceleration per second; infinite: none.
        size: k; limits are of the vector's length, so no component exceeds them.

    Raises:
        ValueError: A limit is not positive, or only the jerk is limited, not the acceleration.
    """

    def __init__(self, tick_sec: float, acceleration: float, jerk: float, size: int = 3) -> None:
        self._tick, self._size = tick_sec, size
        self._fading = 0.0  # jerk limit in force when the present acceleration arose
        self.rest()
        self.set_limits(acceleration, jerk)

    def set_limits(self, acceleration: float, jerk: float) -> None:
        """Replaces the limits; velocity and acceleration continue from their present values."""
        if not (self._tick > 0.0 and acceleration > 0.0 and jerk > 0.0):
            raise ValueError(
                f"tick {self._tick}, acceleration {acceleration}, jerk {jerk}; accepted: positive"
            )
        if math.isinf(acceleration) and not math.isinf(jerk):
            raise ValueError(f"jerk {jerk} without acceleration; accepted: a limit of both")
        self._acceleration, self._jerk = acceleration, jerk
        self._fading = max(self._fading, jerk)

    @property
    def value(self) -> np.ndarray:
        """(k,), the velocity of the newest tick."""
        return self._value

    @property
    def at_rest(self) -> bool:
        """Whether the velocity is zero and stays so while nothing else is wanted."""
        return not self._value.any() and not self.reserve.any()

    @property
    def delay_sec(self) -> float:
        """Delay of a change due to the jerk limit, plus one tick, s."""
        if math.isinf(self._jerk):
            return self._tick
        return self._tick + self._acceleration / self._jerk

    def rest(self) -> None:
        """Stops at once, without a ramp."""
        self._value, self._rate = np.zeros((2, self._size))
        self.reserve = np.zeros((1, self._size))
        """(n, k), the velocities of the next ticks of the planned stop."""

    def stop_limits(self, deceleration: float, seconds: float) -> tuple[float, float] | None:
        """Returns acceleration and jerk of a stop from here; None: the planned stop is sufficient.

        The jerk of a stop that is harder than planned is at least such that the fading of the
        acceleration takes a quarter of the time, the ramp one half and its rounded ends a quarter.

        Args:
            deceleration: Least deceleration of the stop.
            seconds: Longest time of the stop, s; infinite: any.
        """
        if deceleration <= self._acceleration and len(self.reserve) * self._tick <= seconds:
            return None
        speed, rate = (float(np.linalg.norm(each)) for each in (self._value, self._rate))
        hardest = max(deceleration, self._acceleration, 2.0 * speed / seconds + rate / 4.0)
        return hardest, max(self._jerk, 4.0 * max(hardest, rate) / seconds)

    def stop(self, limits: tuple[float, float] | None) -> np.ndarray:
        """Returns the velocities (n, k) of a stop with limits from `stop_limits`."""
        return self.reserve if limits is None else self.plan(np.zeros(self._size), limits)

    def plan(self, wanted: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
        """Plans the next tick, as far towards the wanted velocity as allowed, and a stop after it.

        Args:
            wanted: (k,), finite.
            limits: Acceleration and jerk, instead of those in force.

        Returns:
            (n, k), the velocities of the next ticks; the last one is zero.
        """
        acceleration, jerk = limits or (self._acceleration, self._jerk)
        if math.isinf(acceleration):
            return np.stack([wanted, np.zeros(self._size)])
        rate, size = self._rate, float(np.linalg.norm(self._rate))
        goal = self._goal(jerk * self._tick)
        if self._fading > jerk:
            # After a change of limits, motion that exceeds the new ones ends under the old ones.
            speeds = [float(np.linalg.norm(each)) for each in (goal, wanted, self._value)]
            if size > acceleration * (1.0 + _ROUND_OFF) or speeds[0] > max(speeds[1:]) + _ROUND_OFF:
                jerk = self._fading
                goal = self._goal(jerk * self._tick)
            else:
                self._fading = jerk
        change = jerk * self._tick
        # The greatest way of the goal in a tick. The search is for a share of it, and finds none
        # where this is much more than the jerk allows.
        most_rate = min(acceleration, size + change)
        reach = 2.0 * self._tick * (most_rate + min(change, 2.0 * acceleration))
        end = _approach(goal, wanted, reach)
        most = max(acceleration, size - change) * (1.0 + _ROUND_OFF)

        def within(velocity: np.ndarray) -> bool:
            after = (velocity - self._value) / self._tick
            turn = float(np.linalg.norm(after - rate))
            return float(np.linalg.norm(after)) <= most and turn <= change * (1.0 + _ROUND_OFF)

        velocity = self._towards(end, change)
        low, high = 0.0, 1.0
        if not within(velocity):
            velocity = self._towards(goal, change)
            for _ in range(_BISECTIONS):
                middle = (low + high) / 2.0
                candidate = self._towards(goal + middle * (end - goal), change)
                if within(candidate):
                    low, velocity = middle, candidate
                else:
                    high = middle
        rate = (velocity - self._value) / self._tick
        return np.vstack([velocity, _stop(velocity, rate, self._tick, acceleration, jerk)])

    def take(self, plan: np.ndarray) -> np.ndarray:
        """Advances one tick.

        Args:
            plan: (n, k), from `plan`, `reserve`, or a mixture of the two.

        Returns:
            (k,), the velocity of this tick.
        """
        velocity = plan[0].copy()
        self._rate = (velocity - self._value) / self._tick
        if math.isinf(self._acceleration):
            self._rate = np.zeros(self._size)
        self._value = velocity
        self.reserve = plan[1:] if len(plan) > 1 else np.zeros((1, self._size))
        return velocity

    def stop_from(self, velocity: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """Returns the velocities (n, 3) of a stop from a velocity that was commanded elsewhere.

        Args:
            velocity: (3,), finite; zero is rest.
            rate: (3,), its acceleration, finite.
        """
        if not velocity.any() or math.isinf(self._acceleration):
            return np.zeros((1, 3))
        return _stop(velocity, rate, self._tick, self._acceleration, self._jerk)

    def follow(self, velocity: np.ndarray, rate: np.ndarray) -> None:
        """Adopts a velocity that was commanded elsewhere, with the stop of `stop_from`."""
        self.reserve = self.stop_from(velocity, rate)
        smooth = velocity.any() and not math.isinf(self._acceleration)
        self._value, self._rate = velocity.copy(), rate if smooth else np.zeros(3)

    def _goal(self, change: float) -> np.ndarray:
        """Returns the velocity (k,) once the acceleration has faded in steps of `change`."""
        size = float(np.linalg.norm(self._rate))
        return self._value + self._rate * (_faded(size, change) * self._tick / (size or 1.0))

    def _towards(self, goal: np.ndarray, change: float) -> np.ndarray:
        """Returns the velocity a tick later on the way to a goal, reached without acceleration."""
        way = goal - self._value
        distance = float(np.linalg.norm(way))
        # Steps in which the acceleration fades: the last n of them add up to the distance.
        unit = change * self._tick
        steps = 0
        if math.isfinite(unit):
            steps = math.floor((math.sqrt(1.0 + 8.0 * distance / unit) - 1.0) / 2.0 + _ROUND_OFF)
        if steps == 0:
            return goal.copy()
        rate = (distance / self._tick + change * steps * (steps + 1) / 2.0) / (steps + 1)
        return self._value + way * (rate * self._tick / distance)


def furthest(brake: np.ndarray, free: np.ndarray, allowed: Allowed) -> np.ndarray:
    """Finds the mixture of braking and the wanted motion with the greatest allowed share of it.

    Args:
        brake: (n, m), velocities of braking, which are always allowed.
        free: (n, m), the wanted velocities.
        allowed: Judges a mixture of the two.
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


def lengthen(plans: Sequence[np.ndarray]) -> np.ndarray:
    """Joins plans side by side, padding shorter ones with zero velocities."""
    padded = np.zeros((max(map(len, plans)), sum(plan.shape[1] for plan in plans)))
    at = 0
    for plan in plans:
        padded[: len(plan), at : at + plan.shape[1]] = plan
        at += plan.shape[1]
    return padded


def _faded(rate: float, change: float) -> float:
    """Returns the sum of an acceleration over the ticks in which it fades in steps of `change`."""
    if math.isinf(change):
        return 0.0
    steps = math.floor(rate / change)
    return steps * rate - change * steps * (steps + 1) / 2.0


def _stop(
    velocity: np.ndarray, rate: np.ndarray, tick: float, acceleration: float, jerk: float
) -> np.ndarray:
    """Returns a stop's velocities (n, k): the acceleration fades, then a smooth ramp to zero."""
    size = float(np.linalg.norm(rate))
    jerk = max(jerk, size / (tick * _LONGEST))
    fades = size > 0.0 and not math.isinf(jerk)
    steps = 1 + math.floor(size / (jerk * tick)) if fades else 0
    left = np.clip(size - jerk * tick * np.arange(1, steps + 1), 0.0, None)
    fading = velocity + np.cumsum(left)[:, None] * (rate * (tick / (size or 1.0)))
    goal = fading[-1] if steps else velocity
    speed = float(np.linalg.norm(goal))
    if speed == 0.0:
        return np.vstack([fading, np.zeros_like(velocity)])
    acceleration = max(acceleration, 4.0 * speed / (tick * _LONGEST))
    jerk = max(jerk, 16.0 * speed / (tick * _LONGEST) ** 2)
    rounded = min(acceleration / jerk, math.sqrt(speed / jerk))
    peak = acceleration if rounded == 0.0 else jerk * rounded
    end = speed / peak + rounded
    times = np.arange(1, max(1, math.ceil(end / tick - _ROUND_OFF)) + 1) * tick
    left = np.where(
        times < rounded,
        speed - peak * times**2 / (2.0 * (rounded or 1.0)),
        speed - peak * (times - rounded / 2.0),
    )
    late = times > end - rounded
    left[late] = peak * np.clip(end - times[late], 0.0, None) ** 2 / (2.0 * (rounded or 1.0))
    left[-1] = 0.0
    return np.vstack([fading, left[:, None] * (goal / speed)])


def _approach(now: np.ndarray, wanted: np.ndarray, change: float) -> np.ndarray:
    """Moves from `now` towards `wanted` by at most the length `change`."""
    difference = wanted - now
    distance = float(np.linalg.norm(difference))
    return wanted.copy() if distance <= change else now + difference * (change / distance)

"""The box that the end effector may move in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

AXES = "xyz"
_BRAKING_SHARE = 0.5
"""Share of the acceleration limit that one axis may use while the others use the rest."""


@dataclass(frozen=True, eq=False)
class Workspace:
    """A box along the axes of the base frame.

    Attributes:
        low: Three least coordinates of the tip, m; kept as (3,) float64.
        high: Three greatest coordinates, m; likewise.

    Raises:
        ValueError: A number is missing or NaN, or the box is empty.
    """

    low: np.ndarray
    high: np.ndarray

    def __post_init__(self) -> None:
        low, high = (np.array(end, np.float64) for end in (self.low, self.high))
        if low.shape != (3,) or high.shape != (3,) or not (low < high).all():
            raise ValueError(
                f"workspace {self.low!r} to {self.high!r}; accepted: 3 numbers each, low < high"
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def shape(
        self, velocity: np.ndarray, position: np.ndarray, acceleration: float, delay_sec: float
    ) -> tuple[np.ndarray, str]:
        """Slows each axis down before its wall, and removes motion out of the box.

        An axis keeps at most the speed from which it can still stop at the wall. The other axes are
        unchanged, so the tip slides along a wall; from outside it may come back in.

        Args:
            velocity: (3,), wanted, m/s.
            position: (3,), of the tip, m.
            acceleration: Deceleration of braking, m/s^2; infinite: at once.
            delay_sec: Time until a command takes effect, s.

        Returns:
            The velocity, and in words what was cut; empty if nothing was.
        """
        shaped, notes = velocity.copy(), []
        for i, axis in enumerate(AXES):
            wall = self.high[i] if velocity[i] > 0.0 else self.low[i]
            distance = (wall - position[i]) * math.copysign(1.0, velocity[i])
            accepted = approach_speed(distance, _BRAKING_SHARE * acceleration, delay_sec)
            if abs(velocity[i]) > accepted:
                shaped[i] = math.copysign(accepted, velocity[i])
                notes.append(
                    f"workspace: {axis} velocity {velocity[i]:.3g} m/s limited to "
                    f"{shaped[i]:.3g} at {axis} = {position[i]:.3f} m, wall at {wall:g}"
                )
        return shaped, "; ".join(notes)

    def holds(self, position: np.ndarray, motion: np.ndarray, braking: np.ndarray) -> bool:
        """Whether a motion stays in the box, or at least goes out no further than braking does.

        Args:
            position: (3,), of the tip, m.
            motion: (n, 3), displacements of the motion until it stops, m.
            braking: (m, 3), those of braking from here.
        """
        low = np.minimum(self.low, position + braking.min(axis=0))
        high = np.maximum(self.high, position + braking.max(axis=0))
        path = position + motion
        return bool((path >= low).all() and (path <= high).all())


def approach_speed(distance: float, acceleration: float, delay_sec: float) -> float:
    """Returns the speed from which a stop takes this distance: v^2 / (2 a) + v t = d."""
    if distance <= 0.0:
        return 0.0
    if math.isinf(acceleration):
        return distance / delay_sec
    reach = acceleration * delay_sec
    return math.sqrt(reach * reach + 2.0 * acceleration * distance) - reach

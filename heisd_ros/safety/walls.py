"""Walls in the space of twists or joint velocities, which bound motion, and the motion along them.

Below, k is the number of coordinates: 6 of a twist, or the number of joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

METRES_A_RADIAN = 0.2
"""Weight of a radian against a metre in the search for the nearest twist: about the ratio of the
usual speeds of tip and wrist."""
_NOTEWORTHY = 1e-6
"""Excess of a speed, rad/s or m/s, below which a twist is left as it is."""
_LEAST_SPAN = 1e-12
_LEAST_ROW = 1e-9


@dataclass(frozen=True, eq=False)
class Walls:
    """Bounds on the speeds of approach.

    Attributes:
        rows: (n, k), maps a motion to the speeds of approach, m/s or rad/s.
        allowed: (n,), the greatest speed of each, not negative; infinite: any.
    """

    rows: np.ndarray
    allowed: np.ndarray

    @classmethod
    def none(cls, coordinates: int) -> Walls:
        """Returns no walls, for motions of this number of coordinates."""
        return cls(np.zeros((0, coordinates)), np.zeros(0))

    @classmethod
    def at(
        cls,
        rows: np.ndarray,
        twist: np.ndarray,
        room: np.ndarray,
        span: float | np.ndarray,
        settle_sec: float,
    ) -> Walls:
        """Makes walls before which speed falls linearly to zero.

        Args:
            rows: (n, k), as above.
            twist: (k,), wanted, m/s and rad/s.
            room: (n,), distances to the stops; negative beyond them.
            span: Room below which speed falls, one or (n,); 0: nowhere.
            settle_sec: Time until a change of the twist is complete, s: no stop is reached sooner.
        """
        room = np.maximum(room, 0.0)
        shares = np.minimum(room, span) / np.maximum(span, _LEAST_SPAN)
        slowed = np.where(room < span, shares * np.maximum(rows @ twist, 0.0), np.inf)
        return cls(rows, np.minimum(slowed, room / settle_sec))

    def worst(self, twist: np.ndarray) -> int | None:
        """Returns the index of the wall that a twist violates most; None if it violates none."""
        excess = self.rows @ twist - self.allowed
        worst = int(np.argmax(excess)) if len(excess) else None
        return worst if worst is not None and excess[worst] > _NOTEWORTHY else None


def nearest(
    twist: np.ndarray, rows: np.ndarray, allowed: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Finds the motion nearest to another for which rows @ twist <= allowed.

    It is never longer than the other and never leads back, since standing still is allowed too
    (projection on a convex set). It is found by least
    distance programming (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23).

    Args:
        twist: (k,), m/s and rad/s, not zero.
        rows: (n, k).
        allowed: (n,), not negative; infinite: any.
        weights: (k,), of the coordinates; None: those of a twist, with `METRES_A_RADIAN`.
    """
    scale = np.repeat([1.0, METRES_A_RADIAN], 3) if weights is None else weights
    wanted = twist * scale
    length = float(np.linalg.norm(wanted))
    normals = rows / scale
    sizes = np.linalg.norm(normals, axis=1)
    # Motion along the other rows cannot be told from noise.
    known = (sizes > _LEAST_ROW) & np.isfinite(allowed)
    normals, wanted = normals[known] / sizes[known, None], wanted / length
    excess = normals @ wanted - allowed[known] / (sizes[known] * length)
    table = np.vstack([-normals.T, excess])
    target = np.eye(len(twist) + 1)[-1]
    solution, _ = nnls(table, target)
    residual = table @ solution - target
    return (wanted - residual[:-1] / residual[-1]) * length / scale

"""Walls in the space of twists, which bound the motion of an arm, and the motion along them."""

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
        rows: (n, 6), maps a twist to the speeds of approach, m/s or rad/s.
        allowed: (n,), the greatest speed of each, not negative; infinite: any.
    """

    rows: np.ndarray
    allowed: np.ndarray

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
            rows: (n, 6), as above.
            twist: (6,), wanted, m/s and rad/s.
            room: (n,), distances to the stops; negative beyond them.
            span: Room below which speed falls, one or (n,); 0: nowhere.
            settle_sec: Time until a change of the twist is complete, s: no stop is reached sooner.
        """
        room = np.maximum(room, 0.0)
        shares = room / np.maximum(span, _LEAST_SPAN)
        slowed = np.where(room < span, shares * np.maximum(rows @ twist, 0.0), np.inf)
        return cls(rows, np.minimum(slowed, room / settle_sec))

    def worst(self, twist: np.ndarray) -> int | None:
        """Returns the index of the wall that a twist violates most; None if it violates none."""
        excess = self.rows @ twist - self.allowed
        worst = int(np.argmax(excess)) if len(excess) else None
        return worst if worst is not None and excess[worst] > _NOTEWORTHY else None


def nearest(twist: np.ndarray, rows: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Finds the twist nearest to another for which rows @ twist <= allowed.

    It is never longer than the other and never leads back, since standing still is allowed too
    (projection on a convex set; `METRES_A_RADIAN` weighs the two parts). It is found by least
    distance programming (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23).

    Args:
        twist: (6,), m/s and rad/s, not zero.
        rows: (n, 6).
        allowed: (n,), not negative; infinite: any.
    """
    scale = np.repeat([1.0, METRES_A_RADIAN], 3)
    wanted = twist * scale
    length = float(np.linalg.norm(wanted))
    normals = rows / scale
    sizes = np.linalg.norm(normals, axis=1)
    # Motion along the other rows cannot be told from noise.
    known = (sizes > _LEAST_ROW) & np.isfinite(allowed)
    normals, wanted = normals[known] / sizes[known, None], wanted / length
    excess = normals @ wanted - allowed[known] / (sizes[known] * length)
    table = np.vstack([-normals.T, excess])
    target = np.eye(7)[6]
    weights, _ = nnls(table, target)
    residual = table @ weights - target
    return (wanted - residual[:6] / residual[6]) * length / scale

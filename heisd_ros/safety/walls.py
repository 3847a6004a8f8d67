"""What keeps an arm from going further: walls in the space of twists, and the way along them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

METRES_A_RADIAN = 0.2
"""What a radian counts beside a metre where the nearest twist is looked for: about the ratio of the
speeds that a tip and a wrist are driven at."""
_NOTEWORTHY = 1e-6
"""Excess of a speed, rad/s or m/s, below which a twist is left as it is."""
_LEAST_SPAN = 1e-12
_LEAST_ROW = 1e-9


@dataclass(frozen=True, eq=False)
class Walls:
    """Speeds towards something, which are bounded.

    Attributes:
        rows: (n, 6), a twist to the speeds at which it closes distances, m/s or rad/s.
        allowed: (n,), the largest of each, not negative; infinite: any.
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
        """Walls before which speed goes linearly down to nothing.

        Args:
            rows: (n, 6), as above.
            twist: (6,), wanted, m/s and rad/s.
            room: (n,), distances to the stops; negative beyond them.
            span: Room from which speed goes down, or (n,); 0: nowhere.
            settle_sec: Time until a change of the twist is done: no stop is reached in less.
        """
        room = np.maximum(room, 0.0)
        shares = room / np.maximum(span, _LEAST_SPAN)
        slowed = np.where(room < span, shares * np.maximum(rows @ twist, 0.0), np.inf)
        return cls(rows, np.minimum(slowed, room / settle_sec))

    def worst(self, twist: np.ndarray) -> int | None:
        """Index of the wall that a twist runs into most; None where it keeps before all."""
        excess = self.rows @ twist - self.allowed
        worst = int(np.argmax(excess)) if len(excess) else None
        return worst if worst is not None and excess[worst] > _NOTEWORTHY else None


def nearest(twist: np.ndarray, rows: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The twist nearest to another for which rows @ twist <= allowed; radians count as metres.

    It is never longer than the other and never leads back, as standing still is allowed, too
    (projection on a convex set; `METRES_A_RADIAN` makes one length of both parts). Found by least
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
    # Along the others moves no twist that can be told from noise.
    known = (sizes > _LEAST_ROW) & np.isfinite(allowed)
    normals, wanted = normals[known] / sizes[known, None], wanted / length
    excess = normals @ wanted - allowed[known] / (sizes[known] * length)
    table = np.vstack([-normals.T, excess])
    target = np.eye(7)[6]
    weights, _ = nnls(table, target)
    residual = table @ weights - target
    return (wanted - residual[:6] / residual[6]) * length / scale

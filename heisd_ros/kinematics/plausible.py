"""Whether joint positions can be an arm's: within its limits, and no faster than it moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heisd_ros.kinematics.arm import ArmKinematics

MARGIN, MARGIN_SHARE = 0.2, 0.1
"""Positions may be this far outside of the limits, rad or m, and this share of their range: what an
arm is calibrated to differs from its description."""
HASTE, SLACK = 1.5, 0.05
"""A step may have this many times the speed limit, and be this much longer, rad or m: stamps are
not exact, and descriptions often have the limits of slow operation."""
_TURNS = 4.0 * np.pi
"""Joints without limits are taken to stay within this, rad, where degrees are suspected."""
_FEWEST, _SHARE = 2, 0.05
"""So many positions, and this share of all, must lie outside for them to look like degrees."""


def allowed(arm: ArmKinematics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The limits of an arm's joints and what a position may be beyond them.

    Args:
        arm: The arm.

    Returns:
        Two of shape (n,): the lowest and the highest position, rad or m; infinite without limits.
    """
    lower, upper = arm.position_limits
    margin = np.minimum(MARGIN, MARGIN_SHARE * np.maximum(upper - lower, 0.0))
    return lower - margin, upper + margin


def outside(arm: ArmKinematics, positions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which joint positions cannot be, because they are not finite or far outside of the limits.

    Args:
        arm: The arm.
        positions: (T, n), rad or m, in the arm's joint order.

    Returns:
        (T, n).
    """
    lowest, highest = allowed(arm)
    return ~((positions >= lowest) & (positions <= highest))


def too_fast(
    arm: ArmKinematics, steps: NDArray[np.float64], seconds: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which steps are longer than the arm's speed limits allow.

    Args:
        arm: The arm.
        steps: (T, n) how far each joint moved, rad or m.
        seconds: (T,) in what time.

    Returns:
        (T, n); false where a joint has no speed limit.
    """
    longest = HASTE * np.outer(seconds, arm.velocity_limits) + SLACK
    return np.abs(steps) > longest


def looks_like_degrees(arm: ArmKinematics, positions: NDArray[np.float64]) -> bool:
    """Whether positions make sense as degrees alone.

    Args:
        arm: The arm.
        positions: (T, n) in the arm's joint order.

    Returns:
        True where positions that cannot be are many, and nearly all of them fit in degrees.
    """
    lowest, highest = (np.clip(limits, -_TURNS, _TURNS) for limits in allowed(arm))
    fits = (positions >= lowest) & (positions <= highest)
    odd = positions[~fits.all(axis=1)]
    if len(odd) < max(_FEWEST, _SHARE * len(positions)) or np.abs(odd).max() <= 2.0 * np.pi:
        return False
    read = np.radians(odd)
    good = ((read >= lowest) & (read <= highest)).all(axis=1)
    return bool(good.mean() > 0.9)

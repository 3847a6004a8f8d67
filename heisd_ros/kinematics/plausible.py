"""Checks that joint positions are possible for an arm: within its limits of position and speed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heisd_ros.kinematics.arm import ArmKinematics

MARGIN, MARGIN_SHARE = 0.2, 0.1
"""Positions may be outside the limits by this, rad or m, plus this share of their range, since the
calibration of an arm differs from its description."""
HASTE, SLACK = 1.5, 0.05
"""A step may have this many times the speed limit, plus this length, rad or m: stamps are not
exact, and descriptions often have the limits of slow operation."""
_TURNS = 4.0 * np.pi
"""Joints without limits are assumed to stay within this, rad, when degrees are suspected."""
_FEWEST, _SHARE = 2, 0.05
"""Number and share of positions outside the limits from which they look like degrees."""


def allowed(arm: ArmKinematics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the range of plausible positions of an arm's joints.

    Returns:
        Two of shape (n,): the lowest and the highest position, rad or m; infinite without limits.
    """
    lower, upper = arm.position_limits
    margin = np.minimum(MARGIN, MARGIN_SHARE * np.maximum(upper - lower, 0.0))
    return lower - margin, upper + margin


def outside(arm: ArmKinematics, positions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns which joint positions are impossible: not finite, or far outside the limits.

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
    """Returns which steps are longer than the arm's speed limits allow.

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
    """Whether positions are plausible only as degrees.

    Args:
        arm: The arm.
        positions: (T, n) in the arm's joint order.

    Returns:
        True if many positions are impossible in radians, and nearly all of them fit in degrees.
    """
    lowest, highest = (np.clip(limits, -_TURNS, _TURNS) for limits in allowed(arm))
    fits = (positions >= lowest) & (positions <= highest)
    odd = positions[~fits.all(axis=1)]
    if len(odd) < max(_FEWEST, _SHARE * len(positions)) or np.abs(odd).max() <= 2.0 * np.pi:
        return False
    read = np.radians(odd)
    good = ((read >= lowest) & (read <= highest)).all(axis=1)
    return bool(good.mean() > 0.9)

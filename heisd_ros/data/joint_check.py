"""Counts recorded joint positions that are impossible for the arm, and says where they begin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.plausible import allowed, looks_like_degrees, outside, too_fast

MANY, FEWEST_LEAPS = 0.05, 10
"""Share of impossible positions, and number of leaps to and fro, that are no accident."""


@dataclass
class _Count:
    """Number of occurrences, and the place of the first."""

    times: int = 0
    first: str = ""

    def add(self, seen: NDArray[np.bool_], seconds: NDArray[np.float64], where: str) -> None:
        if seen.any():
            self.first = self.first or f"{where}{seconds[int(np.argmax(seen))]:.2f} s"
            self.times += int(seen.sum())


class JointCheck:
    """Checks runs of joint positions."""

    def __init__(self, arm: ArmKinematics) -> None:
        self._arm, self._total = arm, 0
        self._outside = [_Count() for _ in arm.joint_names]
        self._fast = [_Count() for _ in arm.joint_names]
        self._apart, self._zero = _Count(), 0
        self._far: list[NDArray[np.float64]] = []

    def add(
        self, positions: NDArray[np.float64], seconds: NDArray[np.float64], where: str = ""
    ) -> None:
        """Checks consecutive positions.

        Args:
            positions: (T, n), rad or m, in the arm's joint order.
            seconds: (T,), s, their times, increasing.
            where: Prefix of a time in the report, for instance `episode 3, `.
        """
        self._total += len(positions)
        beyond = outside(self._arm, positions)
        self._far.append(positions[beyond.any(axis=1)])
        with np.errstate(invalid="ignore"):  # positions that are not finite lie outside
            fast = too_fast(self._arm, np.diff(positions, axis=0), np.diff(seconds))
            across = positions[2:] - positions[:-2]
        for joint in range(len(self._arm.joint_names)):
            self._outside[joint].add(beyond[:, joint], seconds, where)
            self._fast[joint].add(fast[:, joint], seconds[1:], where)
        leaps = np.asarray(fast.any(axis=1))
        back = ~too_fast(self._arm, across, seconds[2:] - seconds[:-2])
        self._apart.add(leaps[:-1] & leaps[1:] & back.all(axis=1), seconds[1:-1], where)
        self._zero += int((~positions.any(axis=1)).sum()) if positions.any() else 0

    @property
    def unusable(self) -> str:
        """Returns why the positions can hardly be the arm's; empty if they may be."""
        far = np.concatenate(self._far) if self._far else np.zeros((0, 0))
        if len(far) >= MANY * self._total > 0 and looks_like_degrees(self._arm, far):
            return "joint positions look like degrees; accepted: rad"
        return self._leaps() if self._apart.times >= max(FEWEST_LEAPS, MANY * self._total) else ""

    def lines(self) -> list[str]:
        """Returns the impossible values found, one line each."""
        found = [self.unusable] if self.unusable else []
        lowest, highest = allowed(self._arm)
        for joint, name in enumerate(self._arm.joint_names):
            count = self._outside[joint]
            if count.times:
                found.append(
                    f"{name}: {count.times} of {self._total} positions are outside "
                    f"{lowest[joint]:.2f} to {highest[joint]:.2f}, first at {count.first}"
                )
            count = self._fast[joint]
            if count.times:
                found.append(
                    f"{name}: {count.times} steps are faster than its limit of "
                    f"{self._arm.velocity_limits[joint]:.2f} a second, first at {count.first}"
                )
        if self._apart.times and self._leaps() not in found:
            found.append(self._leaps())
        return found

    def _leaps(self) -> str:
        zero = f" ({self._zero} are 0 in all joints)" if self._zero else ""
        return (
            f"{self._apart.times} joint states leap away from their neighbours and back{zero}, "
            f"first at {self._apart.first}: two publishers on one topic?"
        )

"""Slowing down before a joint limit or a singularity, from live joint positions.

As in MoveIt Servo a twist is scaled as a whole, so that its direction stays: full speed up to a
first threshold, then linearly down to nothing at a second one, and only for motion that goes
towards the limit. Motion away from it keeps its speed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from heisd_ros.errors import JointStateError

if TYPE_CHECKING:
    from heisd_ros.kinematics.arm import ArmKinematics

_DAMPING = 0.02
"""Of the inverse of the Jacobian, so that joint velocities stay finite in a singularity."""
_LOOK_AHEAD_SEC = 0.02
"""How far ahead of the motion the condition number is compared."""


@dataclass(frozen=True, eq=False)
class Posture:
    """Where the arm is.

    Attributes:
        kinematics: The arm.
        positions: (n,), rad, in its joint order.
    """

    kinematics: ArmKinematics
    positions: np.ndarray


@dataclass(frozen=True)
class JointGuard:
    """Scales a twist down before joint limits and singularities.

    Attributes:
        slow_rad: Distance from a joint's limit from which motion towards it is slowed; 0: joint
            limits are not looked at.
        stop_rad: Distance at which it is stopped.
        singularity_slow: Condition number of J(q) from which motion towards a singularity is
            slowed; 0: not looked at. Metres and radians are mixed in it, as in MoveIt Servo.
        singularity_stop: Condition number at which it is stopped.
        limits: Joint name to (lower, upper), rad, in place of the limits of the URDF.

    Raises:
        ValueError: Thresholds are in the wrong order, or a limit has no inside.
    """

    slow_rad: float = 0.0
    stop_rad: float = 0.0
    singularity_slow: float = 0.0
    singularity_stop: float = 0.0
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.slow_rad > 0.0 and not 0.0 <= self.stop_rad < self.slow_rad:
            raise ValueError(f"stop_rad {self.stop_rad}; accepted: 0 to slow_rad {self.slow_rad}")
        if self.singularity_slow > 0.0 and not self.singularity_slow < self.singularity_stop:
            raise ValueError(
                f"singularity_stop {self.singularity_stop}; accepted: more than singularity_slow "
                f"{self.singularity_slow}"
            )
        for name, (lower, upper) in self.limits.items():
            if not lower < upper:
                raise ValueError(f"limits of {name}: {lower} to {upper}; accepted: lower < upper")

    def check(self, kinematics: ArmKinematics) -> None:
        """Checks that every joint whose limits are given is one of the arm.

        Raises:
            JointStateError: It is not.
        """
        unknown = [name for name in self.limits if name not in kinematics.joint_names]
        if unknown:
            raise JointStateError(
                f"limits for joints {unknown}; accepted: {list(kinematics.joint_names)}"
            )

    def scale(self, twist: np.ndarray, posture: Posture) -> tuple[float, str, str]:
        """How much of a twist may be commanded here.

        Args:
            twist: (6,), m/s and rad/s in the base frame.
            posture: Where the arm is.

        Returns:
            The factor, 0 to 1; what bounds it, "joint_limit", "singularity" or empty; in words why.
        """
        if not twist.any() or not (self.slow_rad > 0.0 or self.singularity_slow > 0.0):
            return 1.0, "", ""
        kinematics, q = posture.kinematics, posture.positions
        jacobian = kinematics.jacobian(q)
        inertia = jacobian @ jacobian.T + _DAMPING**2 * np.eye(6)
        velocities = jacobian.T @ np.linalg.solve(inertia, twist)
        found = [(1.0, "", "")]
        if self.slow_rad > 0.0:
            found.append(self._joint_limits(velocities, posture))
        if self.singularity_slow > 0.0:
            found.append(self._singularity(jacobian, velocities, posture))
        return min(found, key=lambda item: item[0])

    def _joint_limits(self, velocities: np.ndarray, posture: Posture) -> tuple[float, str, str]:
        names = posture.kinematics.joint_names
        lower, upper = (limits.copy() for limits in posture.kinematics.position_limits)
        for i, name in enumerate(names):
            if name in self.limits:
                lower[i], upper[i] = self.limits[name]
        q = posture.positions
        distances = np.where(velocities > 0.0, upper - q, q - lower)
        factors = (distances - self.stop_rad) / (self.slow_rad - self.stop_rad)
        factors = np.where(velocities == 0.0, 1.0, np.clip(factors, 0.0, 1.0))
        worst = int(np.argmin(factors))
        return (
            float(factors[worst]),
            "joint_limit",
            f"{names[worst]} at {q[worst]:.3f} rad is {distances[worst]:.3f} rad from its limit: "
            f"speed scaled by {factors[worst]:.2f}",
        )

    def _singularity(
        self, jacobian: np.ndarray, velocities: np.ndarray, posture: Posture
    ) -> tuple[float, str, str]:
        condition = _condition(jacobian)
        if condition <= self.singularity_slow:
            return 1.0, "", ""
        ahead = posture.positions + velocities * _LOOK_AHEAD_SEC
        if _condition(posture.kinematics.jacobian(ahead)) <= condition:
            return 1.0, "", ""
        span = self.singularity_stop - self.singularity_slow
        factor = float(np.clip((self.singularity_stop - condition) / span, 0.0, 1.0))
        return (
            factor,
            "singularity",
            f"condition number {condition:.3g} near a singularity: speed scaled by {factor:.2f}",
        )


def parse_limits(entries: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Position limits written as 'NAME LOWER UPPER', rad; empty entries say nothing.

    Raises:
        ValueError: An entry is written otherwise, or is no range.
    """
    limits = {}
    for entry in filter(None, entries):
        try:
            name, lower, upper = entry.split()
            limits[name] = float(lower), float(upper)
            good = -math.inf < limits[name][0] < limits[name][1] < math.inf
        except ValueError:
            good = False
        if not good:
            raise ValueError(f"{entry!r}; accepted: 'NAME LOWER UPPER' in rad, LOWER < UPPER")
    return limits


def _condition(jacobian: np.ndarray) -> float:
    values = np.linalg.svd(jacobian, compute_uv=False)
    return float(values[0] / max(values[-1], 1e-12))

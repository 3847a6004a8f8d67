"""Slowing down before a joint limit or a singularity, from live joint positions.

Speed is full up to a first threshold and goes linearly down to nothing at a second one, as in
MoveIt Servo, and only for motion that leads there. Before a singularity the twist is scaled as a
whole. Before a joint's limit only that joint is slowed: the twist becomes the nearest one in which
no joint comes closer than it may, so the arm slides along the limit as it does along a wall.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

from heisd_ros.errors import JointStateError

if TYPE_CHECKING:
    from heisd_ros.kinematics.arm import ArmKinematics

_DAMPING = 0.02
"""Of the inverse of the Jacobian, so that joint velocities stay finite in a singularity."""
_LOOK_AHEAD_SEC = 0.02
"""How far ahead of the motion the condition number is compared."""
METRES_A_RADIAN = 0.2
"""What a radian counts beside a metre where the nearest twist is looked for: about the ratio of the
speeds that a tip and a wrist are driven at."""
_NOTEWORTHY = 1e-6
"""Excess of a joint's speed, rad/s, below which a twist is left as it is."""
_ROUND_OFF = 1e-9


@dataclass(frozen=True, eq=False)
class Posture:
    """Where the arm is.

    Attributes:
        kinematics: The arm.
        positions: (n,), rad, in its joint order.
    """

    kinematics: ArmKinematics
    positions: np.ndarray

    @cached_property
    def jacobian(self) -> np.ndarray:
        """(6, n), joint velocities to the twist of the tip, in the base frame."""
        return self.kinematics.jacobian(self.positions)

    @cached_property
    def inverse(self) -> np.ndarray:
        """(n, 6), twist to joint velocities, damped."""
        square = self.jacobian @ self.jacobian.T + _DAMPING**2 * np.eye(6)
        return np.linalg.solve(square, self.jacobian).T


@dataclass(frozen=True)
class JointGuard:
    """Slows a twist down before joint limits and singularities.

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

    def shape(
        self, twist: np.ndarray, posture: Posture, settle_sec: float
    ) -> tuple[np.ndarray, dict[str, str]]:
        """What of a twist may be commanded here.

        Args:
            twist: (6,), m/s and rad/s in the base frame.
            posture: Where the arm is.
            settle_sec: Time until a change of the twist is done, s, positive. No joint goes faster
                than would take it to its stop in that time.

        Returns:
            (6,), the twist; and what bounds it, "joint_limit" or "singularity", in words.
        """
        notes: dict[str, str] = {}
        if not twist.any() or not (self.slow_rad > 0.0 or self.singularity_slow > 0.0):
            return twist, notes
        if self.slow_rad > 0.0:
            twist, notes["joint_limit"] = self._joint_limits(twist, posture, settle_sec)
        if self.singularity_slow > 0.0 and twist.any():
            factor, notes["singularity"] = self._singularity(twist, posture)
            twist = twist * factor
        return twist, {kind: words for kind, words in notes.items() if words}

    def holds(self, posture: Posture, motion: np.ndarray, braking: np.ndarray) -> bool:
        """Whether a motion ends before the joints' stops, or no further on than braking does.

        To first order: the joints are taken to turn with the tip as they do here. What that leaves
        out has `stop_rad` for room.

        Args:
            posture: Where the arm is.
            motion: (n, 6), displacements of the tip until a stand, m and rad.
            braking: (m, 6), those of braking from here.
        """
        q, turn = posture.positions, posture.inverse.T
        lower, upper = self._range(posture.kinematics)
        halting, path = q + braking @ turn, q + motion @ turn
        low = np.minimum(lower + self.stop_rad, halting.min(axis=0))
        high = np.maximum(upper - self.stop_rad, halting.max(axis=0))
        return bool((path >= low - _ROUND_OFF).all() and (path <= high + _ROUND_OFF).all())

    def _joint_limits(
        self, twist: np.ndarray, posture: Posture, settle_sec: float
    ) -> tuple[np.ndarray, str]:
        """The nearest twist that takes no joint towards a limit faster than it may go there."""
        q, inverse = posture.positions, posture.inverse
        velocities = inverse @ twist
        lower, upper = self._range(posture.kinematics)
        distances = np.concatenate([q - lower, upper - q])
        towards = np.concatenate([-velocities, velocities])
        room = np.maximum(distances - self.stop_rad, 0.0)
        shares = room / (self.slow_rad - self.stop_rad)
        slowed = np.minimum(shares, 1.0) * np.maximum(towards, 0.0)
        slowed = np.where(shares < 1.0, slowed, np.inf)
        allowed = np.minimum(slowed, room / settle_sec)
        excess = towards - allowed
        worst = int(np.argmax(excess))
        if excess[worst] <= _NOTEWORTHY:
            return twist, ""
        bounded = np.isfinite(allowed)
        rows = np.concatenate([-inverse, inverse])[bounded]
        joint = worst % len(q)
        return nearest(twist, rows, allowed[bounded]), (
            f"{posture.kinematics.joint_names[joint]} at {q[joint]:.3f} rad is "
            f"{distances[worst]:.3f} rad from its limit: {towards[worst]:.3g} rad/s towards it "
            f"limited to {allowed[worst]:.3g}"
        )

    def _range(self, kinematics: ArmKinematics) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = (limits.copy() for limits in kinematics.position_limits)
        for i, name in enumerate(kinematics.joint_names):
            if name in self.limits:
                lower[i], upper[i] = self.limits[name]
        return lower, upper

    def _singularity(self, twist: np.ndarray, posture: Posture) -> tuple[float, str]:
        condition = _condition(posture.jacobian)
        if condition <= self.singularity_slow:
            return 1.0, ""
        ahead = posture.positions + posture.inverse @ twist * _LOOK_AHEAD_SEC
        if _condition(posture.kinematics.jacobian(ahead)) <= condition:
            return 1.0, ""
        span = self.singularity_stop - self.singularity_slow
        factor = float(np.clip((self.singularity_stop - condition) / span, 0.0, 1.0))
        return factor, (
            f"condition number {condition:.3g} near a singularity: speed scaled by {factor:.2f}"
        )


def nearest(twist: np.ndarray, rows: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The twist nearest to another for which rows @ twist <= allowed; radians count as metres.

    It is never longer than the other and never leads back, as standing still is allowed, too
    (projection on a convex set; `METRES_A_RADIAN` makes one length of both parts). Found by least
    distance programming (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23).

    Args:
        twist: (6,), m/s and rad/s, not zero.
        rows: (n, 6), none of them zero.
        allowed: (n,), not negative.
    """
    scale = np.repeat([1.0, METRES_A_RADIAN], 3)
    wanted = twist * scale
    length = float(np.linalg.norm(wanted))
    normals = rows / scale
    sizes = np.linalg.norm(normals, axis=1)
    normals, wanted = normals / sizes[:, None], wanted / length
    excess = normals @ wanted - allowed / (sizes * length)
    table = np.vstack([-normals.T, excess])
    target = np.eye(7)[6]
    weights, _ = nnls(table, target)
    residual = table @ weights - target
    return (wanted - residual[:6] / residual[6]) * length / scale


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

"""Slows the arm down before joint limits, collisions and singularities, from live joint positions.

The motion is a twist of the tip, or the velocities of the joints themselves: the posture says which
(see `posture`). Below, k is the number of its coordinates, 6 or the number of joints.

Speed is full up to a first threshold and falls linearly to zero at a second one, as in MoveIt
Servo, and only for motion towards it. Before a joint's limit or a collision the twist becomes the
nearest one that respects all distances, so the arm slides along the obstacle as along a wall.
Before a singularity, and where a joint would be too fast, the twist is scaled as a whole.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from heisd_ros.errors import JointStateError
from heisd_ros.safety.collision import CollisionGuard
from heisd_ros.safety.posture import Posture
from heisd_ros.safety.walls import METRES_A_RADIAN, Walls, nearest

if TYPE_CHECKING:
    from heisd_ros.kinematics.arm import ArmKinematics

__all__ = ["METRES_A_RADIAN", "JointGuard", "Posture", "nearest", "parse_limits"]

_LOOK_AHEAD_SEC = 0.02
"""How far ahead of the motion the condition number is compared."""
_ROUND_OFF = 1e-9


@dataclass(frozen=True)
class JointGuard:
    """Slows a twist down before joint limits, collisions, singularities and too fast joints.

    Attributes:
        slow_rad: Distance to a joint's limit below which motion towards it is slowed, rad; 0: joint
            limits are not checked.
        stop_rad: Distance at which it is stopped, rad.
        singularity_slow: Condition number of J(q) above which motion towards a singularity is
            slowed; 0: not checked. It mixes metres and radians, as in MoveIt Servo.
        singularity_stop: Condition number at which it is stopped.
        limits: Joint name to (lower, upper), rad, instead of the limits of the URDF.
        velocity_scale: Share of the URDF's velocity limits that joints may reach; 0: not checked.
            Joints without such a limit are never checked.
        collision: Guard that keeps links off each other and the table.

    Raises:
        ValueError: Thresholds are in the wrong order, a range is empty, or a share is not in
            [0, 1].
    """

    slow_rad: float = 0.0
    stop_rad: float = 0.0
    singularity_slow: float = 0.0
    singularity_stop: float = 0.0
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    velocity_scale: float = 0.0
    collision: CollisionGuard = field(default_factory=CollisionGuard)

    def __post_init__(self) -> None:
        if self.slow_rad > 0.0 and not 0.0 <= self.stop_rad < self.slow_rad:
            raise ValueError(f"stop_rad {self.stop_rad}; accepted: 0 to slow_rad {self.slow_rad}")
        if self.singularity_slow > 0.0 and not self.singularity_slow < self.singularity_stop:
            raise ValueError(
                f"singularity_stop {self.singularity_stop}; accepted: more than singularity_slow "
                f"{self.singularity_slow}"
            )
        if not 0.0 <= self.velocity_scale <= 1.0:
            raise ValueError(f"velocity_scale {self.velocity_scale}; accepted: 0 to 1")
        for name, (lower, upper) in self.limits.items():
            if not lower < upper:
                raise ValueError(f"limits of {name}: {lower} to {upper}; accepted: lower < upper")

    @property
    def stops(self) -> bool:
        """Whether there is anything that `judge` checks."""
        return max(self.slow_rad, self.velocity_scale, self.collision.slow_m) > 0.0

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
        self,
        twist: np.ndarray,
        posture: Posture,
        settle_sec: float,
        others: Walls | None = None,
    ) -> tuple[np.ndarray, dict[str, str]]:
        """Limits a motion to what may be commanded in a posture.

        Args:
            twist: (k,), m/s and rad/s in the base frame, or the velocities of the joints.
            posture: Posture of the arm.
            settle_sec: Time until a change of the motion is complete, s, positive. No joint moves
                so fast that it would reach its stop within that time.
            others: Walls that the motion has to keep besides.

        Returns:
            (k,), the motion; and what bounds it, "joint_limit", "collision", "singularity" or
            "joint_velocity", in words.
        """
        notes: dict[str, str] = {}
        if not twist.any():
            return twist, notes
        joints, notes["joint_limit"] = self._joint_limits(twist, posture, settle_sec)
        solids, notes["collision"] = self.collision.walls(twist, posture, settle_sec)
        walls = [joints, solids, *([others] if others else [])]
        if (
            notes["joint_limit"]
            or notes["collision"]
            or (others and others.worst(twist) is not None)
        ):
            rows = np.concatenate([each.rows for each in walls])
            allowed = np.concatenate([each.allowed for each in walls])
            twist = nearest(twist, rows, allowed, posture.weights)
        # Scaling comes last, since it breaks no wall.
        if self.singularity_slow > 0.0 and twist.any():
            factor, notes["singularity"] = self._singularity(twist, posture)
            twist = twist * factor
        if self.velocity_scale > 0.0 and twist.any():
            factor, notes["joint_velocity"] = self._velocity(twist, posture, settle_sec)
            twist = twist * factor
        return twist, {kind: words for kind, words in notes.items() if words}

    def holds(self, posture: Posture, motion: np.ndarray, braking: np.ndarray) -> bool:
        """Whether a motion keeps all stops, or breaks them no more than braking does.

        The joints are assumed to turn with the tip as they do while braking; `stop_rad` leaves room
        for the error.

        Args:
            posture: Posture of the arm.
            motion: (t, k), displacements after each tick until the arm stops, m and rad.
            braking: (m, k), those of braking from here.
        """
        return self.judge(posture, braking, math.inf)(motion)

    def judge(
        self, posture: Posture, braking: np.ndarray, tick_sec: float
    ) -> Callable[[np.ndarray], bool]:
        """Makes a check like `holds` for several motions, which also covers joint speeds.

        Args:
            posture: Posture of the arm.
            braking: (m, k), as in `holds`.
            tick_sec: Time between two displacements, s; infinite: speeds are not checked.

        Returns:
            A function of a motion as in `holds`.
        """
        turns = posture.turns(braking[-1])
        apart = self.collision.judge(posture, braking)
        lows, highs = self._stops(posture, braking @ turns)
        q, here = posture.positions, posture.sharp_inverse.T
        there = posture.at(posture.ahead(braking[-1])).sharp_inverse.T
        limits = posture.kinematics.velocity_limits * (self.velocity_scale or math.inf)

        def steps(motion: np.ndarray) -> np.ndarray:
            moved = np.diff(motion, axis=0, prepend=np.zeros((1, motion.shape[1])))
            share = np.linspace(0.0, 1.0, len(motion))[:, None]
            steps: np.ndarray = np.abs((1.0 - share) * moved @ here + share * moved @ there)
            return steps.max(axis=0)

        fastest = np.maximum(limits * tick_sec, steps(braking)) + _ROUND_OFF

        def holds(motion: np.ndarray) -> bool:
            path = q + motion @ turns
            inside = (path >= lows).all() and (path <= highs).all()
            return bool(inside and (steps(motion) <= fastest).all() and apart(motion))

        return holds

    def _stops(self, posture: Posture, braking: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the least and the greatest position that each joint may reach, (n,) each, rad.

        Args:
            posture: Posture of the arm.
            braking: (m, n), displacements of the joints when braking from here, rad.
        """
        if self.slow_rad == 0.0:
            everywhere = np.full(len(posture.positions), np.inf)
            return -everywhere, everywhere
        halting = posture.positions + braking
        lower, upper = self._range(posture.kinematics)
        return (
            np.minimum(lower + self.stop_rad, halting.min(axis=0)) - _ROUND_OFF,
            np.maximum(upper - self.stop_rad, halting.max(axis=0)) + _ROUND_OFF,
        )

    def _joint_limits(
        self, twist: np.ndarray, posture: Posture, settle_sec: float
    ) -> tuple[Walls, str]:
        """Computes how fast each joint may move towards its limits."""
        if self.slow_rad == 0.0:
            return Walls.none(len(twist)), ""
        q, inverse = posture.positions, posture.inverse
        lower, upper = self._range(posture.kinematics)
        distances = np.concatenate([q - lower, upper - q])
        rows = np.concatenate([-inverse, inverse])
        room, span = distances - self.stop_rad, self.slow_rad - self.stop_rad
        walls = Walls.at(rows, twist, room, span, settle_sec)
        worst = walls.worst(twist)
        if worst is None:
            return walls, ""
        joint = worst % len(q)
        return walls, (
            f"{posture.kinematics.joint_names[joint]} at {q[joint]:.3f} rad is "
            f"{distances[worst]:.3f} rad from its limit: {rows[worst] @ twist:.3g} rad/s towards "
            f"it limited to {walls.allowed[worst]:.3g}"
        )

    def _velocity(
        self, twist: np.ndarray, posture: Posture, settle_sec: float
    ) -> tuple[float, str]:
        """Returns the share of a twist at which no joint is too fast, now or before it can slow.

        The inverse is not damped, as the arm's own may not be: near a singularity joints are fast.
        """
        kinematics = posture.kinematics
        limits = kinematics.velocity_limits * self.velocity_scale
        turns = posture.inverse @ twist * settle_sec
        ahead = [posture.positions + turns * share for share in (0.5, 1.0)]
        inverses = [posture.at(q).sharp_inverse for q in ahead]
        speeds = np.abs([inverse @ twist for inverse in (posture.sharp_inverse, *inverses)])
        speeds = speeds.max(axis=0)
        shares = speeds / limits
        joint = int(np.argmax(shares))
        if shares[joint] <= 1.0:
            return 1.0, ""
        return float(1.0 / shares[joint]), (
            f"{kinematics.joint_names[joint]} would move at {speeds[joint]:.3g} rad/s, limit "
            f"{limits[joint]:.3g}: speed scaled by {1.0 / shares[joint]:.2f}"
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


def parse_limits(entries: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Parses position limits written as 'NAME LOWER UPPER', rad; empty entries are ignored.

    Raises:
        ValueError: An entry has another form, or its range is empty.
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
    names = [entry.split()[0] for entry in filter(None, entries)]
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise ValueError(f"{list(entries)}; accepted: one range for {doubled[0]!r}")
    return limits


def _condition(jacobian: np.ndarray) -> float:
    values = np.linalg.svd(jacobian, compute_uv=False)
    return float(values[0] / max(values[-1], 1e-12))

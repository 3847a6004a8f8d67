"""The filter between policy and robot: whatever goes in, what comes out is within every limit.

In this order: not finite becomes "stand still"; a control step and the speed are bounded, which
keeps the direction; joint limits bend the twist, singularities scale it, walls of the workspace
bend it; last come acceleration and jerk, which nothing after them can break. A motion from which
the arm could not be stopped within the workspace and the joint limits is not begun (see `ramp`), so
these need no stop that would break the others. All of it counts in ticks of the command's clock.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from heisd_ros.safety.joints import JointGuard, Posture
from heisd_ros.safety.ramp import Ramp, furthest
from heisd_ros.safety.workspace import Workspace

POSE_UNKNOWN = "the pose of the arm is unknown: not moved"


@dataclass(frozen=True)
class PartLimits:
    """Limits of the linear part (m) or of the angular part (rad) of a twist; infinite: none.

    Attributes:
        step: Motion of one control step, m or rad.
        speed: m/s or rad/s.
        acceleration: m/s^2 or rad/s^2.
        jerk: m/s^3 or rad/s^3; needs a limit of the acceleration.

    Raises:
        ValueError: A limit is not positive.
    """

    step: float = math.inf
    speed: float = math.inf
    acceleration: float = math.inf
    jerk: float = math.inf

    def __post_init__(self) -> None:
        for name in ("step", "speed", "acceleration", "jerk"):
            value = getattr(self, name)
            if not value > 0.0:
                raise ValueError(f"limit of {name} is {value}; accepted: positive")


@dataclass(frozen=True)
class SafetyLimits:
    """All limits of the filter.

    Attributes:
        linear: Of the tip's velocity.
        angular: Of its angular velocity.
        workspace: Box that the tip stays in; None: anywhere.
        joints: Slow-down before joint limits and singularities; None: not looked at.
    """

    linear: PartLimits = field(default_factory=PartLimits)
    angular: PartLimits = field(default_factory=PartLimits)
    workspace: Workspace | None = None
    joints: JointGuard | None = None


@dataclass(frozen=True)
class Limited:
    """A command within the limits.

    Attributes:
        twist: (6,), m/s and rad/s in the base frame.
        notes: What was cut, by kind, each in words with its numbers.
    """

    twist: np.ndarray
    notes: dict[str, str]

    def __str__(self) -> str:
        return "; ".join(self.notes.values())


class SafetyFilter:
    """Leads the arm to what the policy wants, within the limits. It starts from rest.

    Args:
        limits: The limits.
        tick_sec: Time from one command to the next, s.
        step_sec: Time of one control step, to which the limit of a step applies, s.

    Attributes:
        counts: Ticks in which something was cut, by kind.
    """

    def __init__(self, limits: SafetyLimits, tick_sec: float, step_sec: float) -> None:
        self.counts: Counter[str] = Counter()
        self._tick, self._step = tick_sec, step_sec
        self._ramps = [
            Ramp(tick_sec, part.acceleration, part.jerk) for part in (limits.linear, limits.angular)
        ]
        self._limits = limits

    @property
    def limits(self) -> SafetyLimits:
        """The limits in force; they may be replaced while the arm moves, which goes on smoothly."""
        return self._limits

    @limits.setter
    def limits(self, limits: SafetyLimits) -> None:
        for ramp, part in zip(self._ramps, (limits.linear, limits.angular), strict=True):
            ramp.set_limits(part.acceleration, part.jerk)
        self._limits = limits

    @property
    def at_rest(self) -> bool:
        """Whether the commanded arm stands."""
        return all(ramp.at_rest for ramp in self._ramps)

    def rest(self) -> np.ndarray:
        """Stands at once, without a ramp; returns the zero twist."""
        for ramp in self._ramps:
            ramp.rest()
        return np.zeros(6)

    def halt(self) -> Limited:
        """The command of the next tick of a smooth halt; no pose is needed for it."""
        return self._ramped(np.zeros(6), None, None, {})

    def step(
        self, wanted: np.ndarray, position: np.ndarray | None, posture: Posture | None
    ) -> Limited:
        """The command of the next tick.

        Args:
            wanted: (6,), m/s and rad/s in the base frame; anything, NaN too.
            position: (3,), where the tip is, or where it was told to be, m; None: unknown.
            posture: Where the joints are; None: unknown.
        """
        notes: dict[str, str] = {}
        wanted = np.array(wanted, np.float64)
        if not np.isfinite(wanted).all():
            notes["not_finite"] = f"twist {wanted.tolist()} is not finite: not moved"
            wanted = np.zeros(6)
        self._bound(wanted[:3], self._limits.linear, "linear", "m", notes)
        self._bound(wanted[3:], self._limits.angular, "angular", "rad", notes)

        guard, box = self._limits.joints, self._limits.workspace
        blind = (guard is not None and posture is None) or (box is not None and position is None)
        if blind and wanted.any():
            notes["pose_unknown"] = POSE_UNKNOWN
            wanted = np.zeros(6)
        if guard is not None and posture is not None:
            wanted, cut = guard.shape(wanted, posture, self._settle_sec(wanted))
            notes |= cut
            if cut:
                wanted = self._within_speed(wanted)
        if box is not None and position is not None:
            braking = self._limits.linear.acceleration
            wanted[:3], words = box.shape(wanted[:3], position, braking, self._ramps[0].delay_sec)
            if words:
                notes["workspace"] = words
        return self._ramped(wanted, position, posture, notes)

    def _within_speed(self, twist: np.ndarray) -> np.ndarray:
        """Scales a twist whole: the nearest one to a joint's limit may be faster in one part."""
        factor = 1.0
        parts = (self._limits.linear, twist[:3]), (self._limits.angular, twist[3:])
        for limits, part in parts:
            speed = float(np.linalg.norm(part))
            most = min(limits.speed, limits.step / self._step)
            factor = min(factor, most / speed if speed > 0.0 else 1.0)
        return twist * factor

    def _path(self, velocities: np.ndarray) -> np.ndarray:
        """(n, 6), m and rad: displacements with these velocities now, and braking after them."""
        linear, angular = self._ramps
        parts = [linear.path(velocities[:3]), angular.path(velocities[3:])]
        ticks = np.arange(max(map(len, parts)))
        # The part that stands first stays where it is.
        return np.hstack([part[np.minimum(ticks, len(part) - 1)] for part in parts])

    def _settle_sec(self, wanted: np.ndarray) -> float:
        """Time until the arm could have gone from what it does, or is to do, to a stand."""
        parts = (self._limits.linear, wanted[:3]), (self._limits.angular, wanted[3:])
        return max(
            ramp.delay_sec
            + max(float(np.linalg.norm(ramp.value)), float(np.linalg.norm(part)))
            / limits.acceleration
            for ramp, (limits, part) in zip(self._ramps, parts, strict=True)
        )

    def _bound(
        self, part: np.ndarray, limits: PartLimits, name: str, unit: str, notes: dict[str, str]
    ) -> None:
        """Scales a part of the twist down, in place, to the limits of a step and of the speed."""
        for kind, factor, limit, units in (
            ("step", self._step, limits.step, unit),
            ("speed", 1.0, limits.speed, f"{unit}/s"),
        ):
            peak = float(np.abs(part).max())
            if peak == 0.0:
                return
            # The direction first: the norm of huge numbers would not be finite.
            direction = part / peak
            length = float(np.linalg.norm(direction))
            direction /= length
            amount = peak * factor * length
            if amount > limit:
                part[:] = direction * (limit / factor)
                words = f"{name} {kind} {amount:.3g} {units} limited to {limit:g}"
                notes[kind] = f"{notes[kind]}; {words}" if kind in notes else words

    def _ramped(
        self,
        wanted: np.ndarray,
        position: np.ndarray | None,
        posture: Posture | None,
        notes: dict[str, str],
    ) -> Limited:
        linear, angular = self._ramps
        brake = np.concatenate([linear.brake(), angular.brake()])
        free = np.concatenate([linear.towards(wanted[:3]), angular.towards(wanted[3:])])
        box, guard = self._limits.workspace, self._limits.joints
        if box is not None and position is not None:
            tip, braking = position, linear.path(brake[:3])
            free[:3] = furthest(
                brake[:3], free[:3], lambda part: box.holds(tip, linear.path(part), braking)
            )
        if guard is not None and guard.stops and posture is not None:
            allowed = guard.judge(posture, self._path(brake), self._tick)
            held = furthest(brake, free, lambda both: allowed(self._path(both)))
            if held is not free:
                notes["braking"] = "no more than what can be braked before a limit of the joints"
            free = held
        twist = np.concatenate([linear.take(free[:3]), angular.take(free[3:])])
        limits = self._limits
        for part, name, unit, limit in (
            (slice(0, 3), "linear", "m/s^2", limits.linear.acceleration),
            (slice(3, 6), "angular", "rad/s^2", limits.angular.acceleration),
        ):
            if limit < math.inf and not np.array_equal(twist[part], wanted[part]):
                words = f"{name} acceleration limited to {limit:g} {unit}"
                before = notes.get("acceleration")
                notes["acceleration"] = f"{before}; {words}" if before else words
        self.counts.update(notes.keys())
        return Limited(twist, notes)

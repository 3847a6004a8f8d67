"""The filter between policy and robot: whatever the input, the output is within every limit.

Limits apply in this order: values that are not finite become "stand still"; a control step and the
speed are bounded, which keeps the direction; joint limits bend the twist, singularities scale it,
walls of the workspace bend it; acceleration and jerk come last, so nothing after them can break
them. A motion from which the arm could not stop within the workspace and the joint limits is not
started (see `ramp`), so these never need a stop that breaks the other limits. A target pose is kept
near the arm in the same way (see `lead`). Time is counted in ticks of the command's clock: one for
each command, and more if a command is late.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from heisd_ros.safety.joints import JointGuard
from heisd_ros.safety.lead import ANGULAR, LINEAR, Lead
from heisd_ros.safety.posture import Posture
from heisd_ros.safety.ramp import furthest, lengthen
from heisd_ros.safety.ramped_filter import (
    NOT_FINITE,
    ON_TIME,
    POSE_UNKNOWN,
    Limited,
    PartLimits,
    RampedFilter,
)
from heisd_ros.safety.workspace import Workspace

__all__ = ["POSE_UNKNOWN", "Limited", "PartLimits", "SafetyFilter", "SafetyLimits"]

_ON_TIME = ON_TIME


@dataclass(frozen=True)
class SafetyLimits:
    """All limits of the filter.

    Attributes:
        linear: Of the tip's velocity.
        angular: Of its angular velocity.
        workspace: Box that the tip stays in; None: anywhere.
        joints: Guard of joint limits and singularities; None: not checked.
        halt_sec: Longest time of a halt, s: if the limits of acceleration and jerk are too low for
            it, a halt exceeds them.
    """

    linear: PartLimits = field(default_factory=PartLimits)
    angular: PartLimits = field(default_factory=PartLimits)
    workspace: Workspace | None = None
    joints: JointGuard | None = None
    halt_sec: float = math.inf

    @property
    def parts(self) -> tuple[PartLimits, ...]:
        """Limits of each ramp."""
        return self.linear, self.angular


class SafetyFilter(RampedFilter[SafetyLimits]):
    """Follows the policy's twists within the limits. It starts from rest.

    Args:
        limits: The limits.
        tick_sec: Time from one command to the next, s.
        step_sec: Duration of one control step, to which the limit of a step applies, s.
        timeout_sec: Time without a command after which the arm has stopped by itself, s; the next
            command then starts from rest.
    """

    def __init__(
        self,
        limits: SafetyLimits,
        tick_sec: float,
        step_sec: float,
        timeout_sec: float = math.inf,
    ) -> None:
        super().__init__(limits, (3, 3), tick_sec, timeout_sec)
        self._step = step_sec

    def stop_from(self, twist: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """Plans a stop from a twist that was commanded elsewhere.

        Args:
            twist: (6,), finite, m/s and rad/s in the base frame.
            rate: (6,), its acceleration, m/s^2 and rad/s^2.

        Returns:
            (n, 6), the displacements, m and rad, after each tick of the stop.
        """
        parts = zip(self._ramps, (LINEAR, ANGULAR), strict=True)
        return self._path(lengthen([ramp.stop_from(twist[p], rate[p]) for ramp, p in parts]))

    def follow(self, twist: np.ndarray, rate: np.ndarray) -> None:
        """Adopts a twist that was commanded elsewhere, as in `stop_from`; a halt starts from it."""
        self._halting = None
        for ramp, part in zip(self._ramps, (LINEAR, ANGULAR), strict=True):
            ramp.follow(twist[part], rate[part])

    def step(
        self,
        wanted: np.ndarray,
        position: np.ndarray | None,
        posture: Posture | None,
        lead: Lead | None = None,
        elapsed_sec: float | None = None,
    ) -> Limited:
        """Returns the next command.

        A late command makes up for the braking that was missed, but gains no speed.

        Args:
            wanted: (6,), m/s and rad/s in the base frame; any values, also NaN.
            position: (3,), measured or commanded position of the tip, m; None: unknown.
            posture: Posture of the arm; None: unknown.
            lead: Lead of a target pose over the arm; None: there is no target.
            elapsed_sec: Time since the previous command, s; None: one tick.
        """
        self._halting = None
        ticks, share = self._ticks(elapsed_sec)
        motion = np.zeros(6)
        for left in reversed(range(ticks)):
            there = None if position is None else position + motion[:3]
            ahead = lead and lead.moved(motion)
            limited = self._stepped(wanted, there, posture, ahead, gaining=left == 0)
            motion += limited.motion
        return limited.over(motion * share)

    def _stepped(
        self,
        wanted: np.ndarray,
        position: np.ndarray | None,
        posture: Posture | None,
        lead: Lead | None,
        gaining: bool,
    ) -> Limited:
        """Moves one tick towards the wanted twist; not `gaining`: without getting faster."""
        notes: dict[str, str] = {}
        wanted = np.array(wanted, np.float64)
        if not np.isfinite(wanted).all():
            notes["not_finite"] = f"twist {wanted.tolist()} {NOT_FINITE}"
            wanted = np.zeros(6)
        linear, angular = self._limits.linear, self._limits.angular
        self._bound(wanted[:3], linear, "linear", "m", notes)
        self._bound(wanted[3:], angular, "angular", "rad", notes)

        guard, box = self._limits.joints, self._limits.workspace
        blind = (guard is not None and posture is None) or (box is not None and position is None)
        if blind:
            if wanted.any():
                notes["pose_unknown"] = POSE_UNKNOWN
            return self._taken(np.zeros(6), [ramp.reserve for ramp in self._ramps], notes)
        delays = [ramp.delay_sec for ramp in self._ramps]
        if lead is not None:
            wanted, words = lead.shape(wanted, (linear.acceleration, angular.acceleration), delays)
            if words:
                notes["lead"] = words
            self._bound(wanted[:3], linear, "linear", "m", {})
            self._bound(wanted[3:], angular, "angular", "rad", {})
        if guard is not None and posture is not None:
            wanted, cut = guard.shape(wanted, posture, self._settle_sec(wanted))
            notes |= cut
            if cut:
                wanted = self._within_speed(wanted)
        if box is not None and position is not None:
            for place in _places(position, lead):
                wanted[:3], words = box.shape(wanted[:3], place, linear.acceleration, delays[0])
                if words:
                    notes["workspace"] = words
        if not gaining:
            for ramp, part in zip(self._ramps, (wanted[:3], wanted[3:]), strict=True):
                speed, now = float(np.linalg.norm(part)), float(np.linalg.norm(ramp.value))
                part *= min(1.0, now / (speed or 1.0))
        return self._ramped(wanted, position, posture, lead, notes)

    def _within_speed(self, twist: np.ndarray) -> np.ndarray:
        """Scales a twist as a whole: after bending, one part of it may be too fast."""
        factor = 1.0
        parts = (self._limits.linear, twist[:3]), (self._limits.angular, twist[3:])
        for limits, part in parts:
            speed = float(np.linalg.norm(part))
            most = min(limits.speed, limits.step / self._step)
            factor = min(factor, most / speed if speed > 0.0 else 1.0)
        return twist * factor

    def _settle_sec(self, wanted: np.ndarray) -> float:
        """Returns the time that a stop takes from the present or the wanted motion, s."""
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
            # Normalised first, since the norm of huge numbers would not be finite.
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
        lead: Lead | None,
        notes: dict[str, str],
    ) -> Limited:
        linear, angular = self._ramps
        plans = [linear.plan(wanted[:3]), angular.plan(wanted[3:])]
        table = lengthen([linear.reserve, angular.reserve, *plans])
        brake, free = table[:, :6], table[:, 6:]
        braking, box, guard = self._path(brake), self._limits.workspace, self._limits.joints

        def keep(part: slice, holds: Callable[[np.ndarray, np.ndarray], bool]) -> None:
            """Takes as much of a part's free motion as a limit allows, braking included."""
            free[:, part] = furthest(
                brake[:, part],
                free[:, part],
                lambda plan: holds(self._path(plan), braking[:, part]),
            )

        if box is not None and position is not None:
            for place in _places(position, lead):
                keep(LINEAR, partial(box.holds, place))
        if lead is not None:
            for part in (LINEAR, ANGULAR):
                keep(part, partial(lead.holds, part))
        if guard is not None and guard.stops and posture is not None:
            allowed = guard.judge(posture, braking, self._tick)
            held = furthest(brake, free, lambda plan: allowed(self._path(plan)))
            if held is not free:
                notes["braking"] = "no more than what can be braked before a limit of the joints"
            free = held
        return self._taken(wanted, [free[:, :3], free[:, 3:]], notes)


def _places(position: np.ndarray, lead: Lead | None) -> list[np.ndarray]:
    """Returns the positions that must stay in the box: the commanded and the measured one."""
    return [position] if lead is None else [position, position - lead.offset[:3]]

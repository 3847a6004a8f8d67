"""The filter between policy and robot for commands of the joints.

As in `limits`, whatever the input, the output is within every limit, and these are of the joints:
position, speed, acceleration and jerk. The tip's speed, the workspace and the distances of links
are kept as well, by forward kinematics. A motion from which the arm could not stop in time is not
started (see `ramp`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from heisd_ros.safety.joints import JointGuard
from heisd_ros.safety.lead import ANGULAR, LINEAR, JointLead
from heisd_ros.safety.posture import JointPosture
from heisd_ros.safety.ramp import furthest, lengthen
from heisd_ros.safety.ramped_filter import (
    NOT_FINITE,
    POSE_UNKNOWN,
    Limited,
    PartLimits,
    RampedFilter,
)
from heisd_ros.safety.walls import Walls
from heisd_ros.safety.workspace import AXES, Workspace, approach_speed

_SAMPLES = 8
"""Number of places on the way to a stop at which the tip is looked at."""
_ROUND_OFF, _LEAST = 1e-9, 1e-12


@dataclass(frozen=True)
class JointLimits:
    """All limits of the filter.

    Attributes:
        joints: Acceleration and jerk of the vector of all joints, rad/s^2 and rad/s^3 (m for a
            prismatic joint), so that no joint exceeds them.
        guard: Limits of joint positions, joint speeds and distances of links.
        linear: Step and speed of the tip.
        angular: The same for its rotation.
        workspace: Box that the tip stays in; None: anywhere.
        halt_sec: As in `SafetyLimits`.
    """

    joints: PartLimits = field(default_factory=PartLimits)
    guard: JointGuard = field(default_factory=JointGuard)
    linear: PartLimits = field(default_factory=PartLimits)
    angular: PartLimits = field(default_factory=PartLimits)
    workspace: Workspace | None = None
    halt_sec: float = math.inf

    @property
    def parts(self) -> tuple[PartLimits, ...]:
        """Limits of the only ramp."""
        return (self.joints,)


class JointFilter(RampedFilter[JointLimits]):
    """Follows wanted joint velocities within the limits. It starts from rest.

    Args:
        limits: The limits.
        count: Number of joints.
        tick_sec: Time from one command to the next, s.
        step_sec: Duration of one control step, to which the limit of a step applies, s.
        timeout_sec: Time without a command after which the arm has stopped by itself, s; the next
            command then starts from rest.
    """

    names: ClassVar = (("joint", "rad/s^2"),)

    def __init__(
        self,
        limits: JointLimits,
        count: int,
        tick_sec: float,
        step_sec: float,
        timeout_sec: float = math.inf,
    ) -> None:
        super().__init__(limits, (count,), tick_sec, timeout_sec)
        self._step = step_sec

    def approach(self, way: np.ndarray) -> np.ndarray:
        """Returns the velocities, (n,), rad/s, from which the arm can stop at a goal.

        Args:
            way: (n,), from here to the goal, rad.
        """
        distance = float(np.linalg.norm(way))
        if not 0.0 < distance < math.inf:
            return way * 0.0
        ramp = self._ramps[0]
        speed = approach_speed(distance, self._limits.joints.acceleration, ramp.delay_sec)
        return way * (min(speed, distance / max(self._step, ramp.delay_sec)) / distance)

    def step(
        self,
        wanted: np.ndarray,
        posture: JointPosture | None,
        lead: JointLead | None = None,
        elapsed_sec: float | None = None,
    ) -> Limited:
        """Returns the next command.

        Args:
            wanted: (n,), rad/s in the arm's joint order; any values, also NaN.
            posture: Commanded joint positions, or the measured ones where velocities are sent;
                None: unknown.
            lead: Lead of the commanded positions over the arm; None: velocities are sent.
            elapsed_sec: Time since the previous command, s; None: one tick.
        """
        self._halting = None
        ticks, share = self._ticks(elapsed_sec)
        motion = np.zeros(self._size)
        for left in reversed(range(ticks)):
            there = posture and posture.moved(motion)
            limited = self._stepped(wanted, there, lead and lead.moved(motion), gaining=left == 0)
            motion += limited.motion
        return limited.over(motion * share)

    def _stepped(
        self,
        wanted: np.ndarray,
        posture: JointPosture | None,
        lead: JointLead | None,
        gaining: bool,
    ) -> Limited:
        """Moves one tick towards the wanted velocities; not `gaining`: without getting faster."""
        notes: dict[str, str] = {}
        ramp, limits = self._ramps[0], self._limits
        wanted = np.array(wanted, np.float64)
        if not np.isfinite(wanted).all():
            notes["not_finite"] = f"joint velocities {wanted.tolist()}: {NOT_FINITE}"
            wanted = np.zeros(self._size)
        if posture is None:
            notes["pose_unknown"] = POSE_UNKNOWN
            return self._taken(np.zeros(self._size), [ramp.reserve], notes)
        wanted = self._bound(wanted, posture, notes)
        if lead is not None:
            wanted, words = lead.shape(wanted, limits.joints.acceleration, ramp.delay_sec)
            if words:
                notes["lead"] = words
            wanted = self._bound(wanted, posture, {})
        settle_sec = self._settle_sec(wanted)
        box, words = self._box(wanted, posture, settle_sec)
        if words:
            notes["workspace"] = words
        wanted, cut = limits.guard.shape(wanted, posture, settle_sec, box)
        wanted = self._bound(wanted, posture, {})
        if not gaining:
            speed, now = float(np.linalg.norm(wanted)), float(np.linalg.norm(ramp.value))
            wanted *= min(1.0, now / (speed or 1.0))
        return self._ramped(wanted, posture, lead, notes | cut)

    def _settle_sec(self, wanted: np.ndarray) -> float:
        """Returns the time that a stop takes from the present or the wanted motion, s."""
        ramp = self._ramps[0]
        speed = max(float(np.linalg.norm(each)) for each in (ramp.value, wanted))
        return ramp.delay_sec + speed / self._limits.joints.acceleration

    def _bound(
        self, wanted: np.ndarray, posture: JointPosture, notes: dict[str, str]
    ) -> np.ndarray:
        """Scales velocities down as a whole to the limits of the joints' and of the tip's speed."""
        peak = float(np.abs(wanted).max())
        if peak == 0.0:
            return wanted
        # Normalised first, since products of huge numbers would not be finite.
        way = wanted / peak
        arm, scale = posture.kinematics, self._limits.guard.velocity_scale or math.inf
        most = arm.velocity_limits * scale / np.maximum(np.abs(way), _LEAST)
        joint = int(np.argmin(most))
        if most[joint] < peak:
            notes["joint_velocity"] = (
                f"{arm.joint_names[joint]} would move at {abs(way[joint]) * peak:.3g} rad/s, limit "
                f"{arm.velocity_limits[joint] * scale:.3g}"
            )
        speed = min(peak, float(most[joint]))
        tip = posture.jacobian @ way
        for part, limits, name, unit in self._tip_parts():
            length = float(np.linalg.norm(tip[part])) or _LEAST
            for kind, limit, sec, units in (
                ("step", limits.step, self._step, unit),
                ("speed", limits.speed, 1.0, f"{unit}/s"),
            ):
                amount = speed * length * sec
                if amount > limit:
                    words = f"{name} {kind} {amount:.3g} {units} limited to {limit:g}"
                    notes[kind] = f"{notes[kind]}; {words}" if kind in notes else words
                    speed = limit / (length * sec)
        return way * speed

    def _tip_parts(self) -> tuple[tuple[slice, PartLimits, str, str], ...]:
        """Returns the parts of the tip's twist, with their limits."""
        limits = self._limits
        return (LINEAR, limits.linear, "linear", "m"), (ANGULAR, limits.angular, "angular", "rad")

    def _box(
        self, wanted: np.ndarray, posture: JointPosture, settle_sec: float
    ) -> tuple[Walls | None, str]:
        """Computes how fast the walls of the workspace may be approached."""
        box = self._limits.workspace
        if box is None:
            return None, ""
        position, rows = (
            posture.kinematics.forward(posture.positions).position,
            posture.jacobian[:3],
        )
        room = np.concatenate([box.high - position, position - box.low])
        walls = Walls.at(np.concatenate([rows, -rows]), wanted, room, 0.0, settle_sec)
        worst = walls.worst(wanted)
        if worst is None:
            return walls, ""
        axis = AXES[worst % 3]
        return walls, (
            f"workspace: {axis} velocity {rows[worst % 3] @ wanted:.3g} m/s, towards the wall "
            f"limited to {walls.allowed[worst]:.3g} at {axis} = {position[worst % 3]:.3f} m"
        )

    def _ramped(
        self,
        wanted: np.ndarray,
        posture: JointPosture,
        lead: JointLead | None,
        notes: dict[str, str],
    ) -> Limited:
        ramp = self._ramps[0]
        table = lengthen([ramp.reserve, ramp.plan(wanted)])
        brake, free = table[:, : self._size], table[:, self._size :]
        braking = self._path(brake)
        apart = self._limits.guard.judge(posture, braking, self._tick)
        tip = self._judge_tip(posture, brake)

        def allowed(plan: np.ndarray) -> bool:
            path = self._path(plan)
            near = lead is None or lead.holds(path, braking)
            return near and apart(path) and tip(plan)

        held = furthest(brake, free, allowed)
        if held is not free:
            notes["braking"] = "no more than what can be braked before a limit"
        return self._taken(wanted, [held], notes)

    def _judge_tip(self, posture: JointPosture, brake: np.ndarray) -> Callable[[np.ndarray], bool]:
        """Makes a check that a plan keeps the tip's limits, or breaks them no more than braking.

        Args:
            posture: Posture of the arm.
            brake: (t, n), the velocities of braking from here.

        Returns:
            A function of velocities (t, n), one row per tick until the arm stops.
        """
        arm, box, start = posture.kinematics, self._limits.workspace, posture.positions
        places = np.unique(np.linspace(0, len(brake) - 1, _SAMPLES).astype(int))
        home = arm.forward(start).position
        most = [min(limits.speed, limits.step / self._step) for _, limits, *_ in self._tip_parts()]

        def course(plan: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """(m, 3), m, displacements of the tip, and (m, 2) its speeds, m/s and rad/s."""
            joints = start + self._path(plan)[places]
            ways = np.array([arm.forward(q).position - home for q in joints])
            twists = np.array(
                [arm.twist(q, dq) for q, dq in zip(joints, plan[places], strict=True)]
            )
            parts = [np.linalg.norm(twists[:, part], axis=1) for part in (LINEAR, ANGULAR)]
            return ways, np.stack(parts, axis=1)

        braking, slowing = course(brake)
        fastest = np.maximum(most, slowing) + _ROUND_OFF

        def holds(plan: np.ndarray) -> bool:
            ways, speeds = course(plan)
            inside = box is None or box.holds(home, ways, braking)
            return inside and bool((speeds <= fastest).all())

        return holds

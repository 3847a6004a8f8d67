"""Checks a command against the limits; each check yields what is wrong, if anything."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from heisd_ros.guard.trips import Trip, TripReason
from heisd_ros.kinematics.pose import Pose
from heisd_ros.robot.command_parameters import STOP_SEC
from heisd_ros.robot.guard_parameters import GuardNodeParameters
from heisd_ros.robot.safety_limits import collision_guard, safety_limits
from heisd_ros.safety.collision import MARGIN_M
from heisd_ros.safety.creep import Creep
from heisd_ros.safety.joints import Posture, parse_limits
from heisd_ros.safety.lead import Lead
from heisd_ros.safety.limits import PartLimits

_ROUND_OFF = 1e-4
"""Speed, m/s or rad/s, that counts as none: targets are differences of rounded numbers."""

_TURNED = 4.0
"""Ticks by which joint states of node and guard may differ, where twists are along the tip: the
acceleration of a tip that moves and turns is uncertain by speed times angular speed for each."""

_ROUNDED_UP = 3.0
"""Ticks by which a stop in whole ticks may be longer than one in continuous time."""

_JOINT_SLACK = 0.01
"""Greatest position beyond a joint's limit, rad, that a command may lead to: a node that stops at
the limit itself measures the joint slightly beyond it."""


class Bounds:
    """The limits of the robot's file, wider by the guard's tolerances.

    A path is where a command leads if it is stopped a tick later: it may leave a limit no further
    than the arm already is, so that an arm beyond a limit can come back. What all commands come to
    is remembered from `begin` on.
    """

    def __init__(self, settings: GuardNodeParameters) -> None:
        limits, guard = safety_limits(settings), settings.guard
        self._share = 1.0 + guard.excess_share
        self._parts = (
            ("linear", "m", slice(0, 3), limits.linear),
            ("angular", "rad", slice(3, 6), limits.angular),
        )
        self._tick = 1.0 / settings.command.rate_hz
        self._along_tip = settings.command_frame != settings.robot.base_frame
        low, high = np.array(settings.workspace.corners)
        self._low, self._high = low - guard.margin_m, high + guard.margin_m
        command, joints = settings.command, settings.joints
        self._lead = command.max_lead_m + guard.margin_m, command.max_lead_rad + guard.margin_rad
        self._start = guard.margin_m, guard.margin_rad
        self._joint_limits = parse_limits(joints.limits)
        self._stop_rad = max(joints.stop_rad - guard.margin_rad, -_JOINT_SLACK)
        self._joint_share = min(1.0, (joints.velocity_scale or 1.0) * self._share)
        self._collision = collision_guard(settings.collision)
        self._slack = min(guard.margin_m, settings.collision.stop_m)
        self.begin()

    def begin(self) -> None:
        """Forgets where the arm was: another one, or it was reset."""
        self._out_of_box, self._out_of_range = Creep(_ROUND_OFF), Creep(_ROUND_OFF)
        self._too_near = Creep(MARGIN_M)
        self._ahead = [Creep(_ROUND_OFF) for _ in self._parts]

    def speed(self, twist: np.ndarray) -> Iterator[Trip]:
        """Checks the speed of a twist, (6,), m/s and rad/s."""
        for name, unit, part, limits in self._parts:
            speed = float(np.linalg.norm(twist[part]))
            if speed > limits.speed * self._share + _ROUND_OFF:
                words = f"{name} speed {speed:.4g} {unit}/s; accepted: up to {limits.speed:g}"
                yield Trip(TripReason.TOO_FAST, words)

    def share(self, twist: np.ndarray) -> float:
        """Returns which share of the greatest speed a twist, (6,), has."""
        return max(
            float(np.linalg.norm(twist[part])) / (limits.speed * self._share)
            for _, _, part, limits in self._parts
        )

    def faded(self, twist: np.ndarray, rates: np.ndarray) -> Iterator[Trip]:
        """Checks the speed that is reached once the acceleration has faded, at the limit of jerk.

        Args:
            twist: (6,), m/s and rad/s.
            rates: (k, 6), accelerations by which it may have come, m/s^2 and rad/s^2.
        """
        for name, unit, part, limits in self._parts:
            sizes = np.linalg.norm(rates[:, part], axis=1)
            seconds = np.maximum(sizes / limits.jerk - self._tick, 0.0) / 2.0
            # A deceleration may be that of a hard halt, which fades before the motion turns.
            seconds = np.where(rates[:, part] @ twist[part] > 0.0, seconds, 0.0)
            reached = twist[part] + rates[:, part] * seconds[:, None]
            speed = float(np.linalg.norm(reached, axis=1).min())
            if speed > limits.speed * self._share + _ROUND_OFF:
                words = f"leads to {name} speed {speed:.4g} {unit}/s; accepted: up to "
                yield Trip(TripReason.TOO_FAST, f"{words}{limits.speed:g}")

    def change(self, twist: np.ndarray, before: np.ndarray, ticks: float) -> Iterator[Trip]:
        """Checks how a twist follows the one before it.

        Args:
            twist: (6,), m/s and rad/s in the base frame.
            before: (6,), likewise.
            ticks: Ticks between the two.
        """
        for name, unit, part, limits in self._parts:
            change = float(np.linalg.norm(twist[part] - before[part]))
            slower = np.linalg.norm(twist[part]) < np.linalg.norm(before[part])
            most = _hardest_stop(limits, self._tick) if slower else limits.acceleration
            accepted = most * ticks * self._tick * self._share + _ROUND_OFF
            if change > accepted:
                yield Trip(
                    TripReason.JUMP,
                    f"{name} velocity changes by {change:.4g} {unit}/s in {ticks:g} ticks; "
                    f"accepted: up to {accepted:.4g}",
                )

    def smooth(
        self, rates: np.ndarray, before: np.ndarray, apart: np.ndarray, twist: np.ndarray
    ) -> np.ndarray:
        """Finds the accelerations that follow from one of the accelerations before.

        Args:
            rates: (n, 6), m/s^2 and rad/s^2, what the acceleration may be.
            before: (k, 6), what it may have been.
            apart: (n, k), ticks between the two.
            twist: (6,), m/s and rad/s that is reached.

        Returns:
            (n,), bool.
        """
        changes = rates[:, None] - before
        # What rounded numbers make of a second difference, and a tip that turns between two.
        slack = 2.0 * _ROUND_OFF / self._tick
        if self._along_tip:
            slack += _TURNED * float(np.linalg.norm(twist[3:])) * float(np.linalg.norm(twist))
        good = np.ones(apart.shape, bool)
        for _, _, part, limits in self._parts:
            most = self._share * _hardest_jerk(limits, self._tick) * self._tick * apart + slack
            good &= np.linalg.norm(changes[..., part], axis=-1) <= most
        return np.asarray(good.any(axis=1))

    def jerk(self, rates: np.ndarray, before: np.ndarray, apart: np.ndarray) -> Trip:
        """Names the jerk of accelerations that do not follow; arguments as in `smooth`."""
        changes = (rates[:, None] - before) / (apart[..., None] * self._tick)
        words = []
        for name, unit, part, limits in self._parts:
            least = float(np.linalg.norm(changes[..., part], axis=-1).min())
            most = self._share * _hardest_jerk(limits, self._tick)
            words.append(f"{name} jerk {least:.3g} {unit}/s^3, accepted: up to {most:.3g}")
        return Trip(TripReason.JERK, "; ".join(words))

    def place(self, position: np.ndarray, path: np.ndarray) -> Iterator[Trip]:
        """Checks that the tip stays in the workspace.

        Args:
            position: (3,), measured or commanded position of the tip, m.
            path: (n, 6), displacements of the path, m and rad.
        """
        way = position + path[:, :3]
        beyond = self._out_of_box.excess(
            np.maximum(self._low - position, position - self._high),
            np.maximum(self._low - way, way - self._high).max(axis=0),
        )
        worst = int(np.argmax(beyond))
        if beyond[worst] > 0.0:
            end = way[np.argmax(np.maximum(self._low - way, way - self._high)[:, worst]), worst]
            yield Trip(
                TripReason.WORKSPACE,
                f"leads to {'xyz'[worst]} = {end:.3f} m; accepted: {self._low[worst]:g} to "
                f"{self._high[worst]:g}, the workspace and a margin",
            )

    def posture(self, posture: Posture, twist: np.ndarray, path: np.ndarray) -> Iterator[Trip]:
        """Checks the limits of the joints, of their speeds, and the distances of the links.

        Args:
            posture: Posture of the arm.
            twist: (6,), m/s and rad/s in the base frame.
            path: (n, 6), displacements of the tip along the path, m and rad.
        """
        if not twist.any():
            return
        arm = posture.kinematics
        speeds = np.abs(posture.sharp_inverse @ twist)
        shares = speeds / (arm.velocity_limits * self._joint_share)
        worst = int(np.argmax(shares))
        if shares[worst] > 1.0:
            yield Trip(
                TripReason.JOINT_VELOCITY,
                f"{arm.joint_names[worst]} would move at {speeds[worst]:.3g} rad/s; accepted: up "
                f"to {arm.velocity_limits[worst] * self._joint_share:.3g}",
            )
        lower, upper = (limits.copy() for limits in arm.position_limits)
        for i, name in enumerate(arm.joint_names):
            lower[i], upper[i] = self._joint_limits.get(name, (lower[i], upper[i]))
        lower, upper = lower + self._stop_rad, upper - self._stop_rad
        q = posture.positions
        way = q + path @ posture.turns(path[-1])
        beyond = self._out_of_range.excess(
            np.maximum(lower - q, q - upper), np.maximum(lower - way, way - upper).max(axis=0)
        )
        worst = int(np.argmax(beyond))
        if beyond[worst] > 0.0:
            yield Trip(
                TripReason.JOINT_LIMIT,
                f"leads {arm.joint_names[worst]} to {way[-1, worst]:.3f} rad; accepted: "
                f"{lower[worst]:.3f} to {upper[worst]:.3f}",
            )
        near = self._collision.encroached(posture, path[-1], self._slack, self._too_near)
        if near:
            yield Trip(TripReason.COLLISION, f"leads {near}, collision.stop_m less a margin")

    def lead(self, target: Pose, before: Pose, measured: Pose) -> Iterator[Trip]:
        """Checks that a target does not run away from the arm; it may come back.

        Args:
            target: Pose of the tip, in the base frame.
            before: The previous target.
            measured: Measured pose.
        """
        parts = zip(self._parts, self._lead, self._ahead, strict=True)
        for (_, unit, part, _), most, creep in parts:
            ahead, earlier = (_distance(measured, each, part) for each in (target, before))
            if creep.excess(np.array([earlier - most]), np.array([ahead - most]))[0] > 0.0:
                words = f"target leads the arm by {ahead:.3g} {unit}; accepted: up to {most:.3g}"
                yield Trip(TripReason.LEAD, words)

    def left(self, target: Pose, measured: Pose) -> bool:
        """Whether the arm is no longer where a target holds it."""
        leads = zip(self._parts, self._lead, strict=True)
        return any(_distance(measured, target, part) > most for (_, _, part, _), most in leads)

    def start(self, target: Pose, measured: Pose) -> Iterator[Trip]:
        """Checks that the first target is where the arm is."""
        for (_, unit, part, _), most in zip(self._parts, self._start, strict=True):
            ahead = _distance(measured, target, part)
            if ahead > most:
                yield Trip(
                    TripReason.NOT_FROM_REST,
                    f"the first target is {ahead:.3g} {unit} from the measured pose; accepted: up "
                    f"to {most:g}; deactivate and activate the node",
                )


def target_twists(target: Pose, before: Pose, ticks: int, tick_sec: float) -> list[np.ndarray]:
    """Returns the velocities that a target may have, (6,) each, m/s and rad/s.

    A target that comes late may have moved by one tick or by as many as have passed.

    Args:
        target: The target.
        before: The previous one.
        ticks: Ticks that have passed.
        tick_sec: Time of a tick, s.
    """
    motion = Lead.between(before, target, (0.0, 0.0)).offset
    twists = [motion / (n * tick_sec) for n in range(1, ticks + 1)]
    return [np.where(np.abs(twist) > _ROUND_OFF, twist, 0.0) for twist in twists]


def _distance(one: Pose, other: Pose, part: slice) -> float:
    return float(np.linalg.norm(Lead.between(one, other, (0.0, 0.0)).offset[part]))


def _is_harder(limits: PartLimits, tick_sec: float) -> bool:
    """Whether a halt may be harder than acceleration and jerk, as the safety filter plans it."""
    bend = 0.0 if math.isinf(limits.jerk) else 2.0 * limits.acceleration / limits.jerk
    planned = limits.speed / limits.acceleration + bend + _ROUNDED_UP * tick_sec
    return limits.deceleration > limits.acceleration or planned > STOP_SEC


def _hardest_stop(limits: PartLimits, tick_sec: float) -> float:
    """Returns the greatest deceleration of a halt."""
    if not _is_harder(limits, tick_sec):
        return limits.acceleration
    soonest = 2.0 * limits.speed / STOP_SEC + limits.acceleration / 4.0
    return max(limits.acceleration, limits.deceleration, soonest)


def _hardest_jerk(limits: PartLimits, tick_sec: float) -> float:
    """Returns the greatest jerk, that of a halt included."""
    if not _is_harder(limits, tick_sec):
        return limits.jerk
    return max(limits.jerk, 4.0 * _hardest_stop(limits, tick_sec) / STOP_SEC)

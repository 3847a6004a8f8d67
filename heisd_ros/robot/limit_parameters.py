"""Parameters of the VLA node that limit where the arm may go. Most may change live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from heisd_ros.robot.command_parameters import SETTLE_SEC
from heisd_ros.robot.declare import Parameters, at_least, at_most, at_most_if_any, parameter
from heisd_ros.safety.collision import NO_TABLE
from heisd_ros.safety.joints import parse_limits

LEAST_ACCELERATION = 0.2
"""Least limit of the joints' acceleration, rad/s^2: each command plans a stop, tick by tick."""
Corner = tuple[float, float, float]
_FAR_M = 10.0


def _least(axis: str) -> Any:
    return _wall(f"Least {axis}", -_FAR_M, looseness=at_least)


def _largest(axis: str) -> Any:
    return _wall(f"Largest {axis}", _FAR_M, looseness=at_most)


def _wall(what: str, default: float, **marks: Any) -> Any:
    description = f"{what} (m) of the tip in robot.base_frame."
    return parameter(default, description, low=-_FAR_M, high=_FAR_M, own=True, **marks)


@dataclass(frozen=True)
class WorkspaceParameters(Parameters):
    """The box that the tip stays in."""

    x_min: float = _least("x")
    x_max: float = _largest("x")
    y_min: float = _least("y")
    y_max: float = _largest("y")
    z_min: float = _least("z")
    z_max: float = _largest("z")

    @property
    def corners(self) -> tuple[Corner, Corner]:
        """Returns the lower and upper corner of the box, m, in `robot.base_frame`."""
        return (self.x_min, self.y_min, self.z_min), (self.x_max, self.y_max, self.z_max)

    @property
    def bounded(self) -> bool:
        """Whether the box is set: each side is shorter than the default, 20 m."""
        return all(b - a < 2.0 * _FAR_M for a, b in zip(*self.corners, strict=True))

    def _problems(self) -> Iterator[tuple[str, str]]:
        for axis, low, high in zip("xyz", *self.corners, strict=True):
            if low >= high:
                yield f"{axis}_min", f"less than {axis}_max, {high:g}"


@dataclass(frozen=True)
class JointParameters(Parameters):
    """Limits of joint positions and speeds."""

    limits: tuple[str, ...] = parameter(
        ("",),
        "Position limits that replace those of the URDF: 'NAME LOWER UPPER', rad; empty: none.",
    )
    slow_rad: float = parameter(
        0.0,
        "Distance (rad) from a joint's limit from which motion towards it is slowed down; 0: joint "
        "limits are not looked at, or 0.1 where joints are commanded.",
        low=0.0,
        high=1.0,
        looseness=at_least,
    )
    stop_rad: float = parameter(
        0.0,
        "Distance (rad) from a joint's limit at which motion towards it is stopped; less than "
        "joints.slow_rad.",
        low=0.0,
        high=1.0,
        looseness=at_least,
    )
    velocity_scale: float = parameter(
        0.0,
        "Share of the URDF's velocity limits that joints may move at; a motion that needs more is "
        "scaled down whole; 0: not looked at, or 1 where joints are commanded.",
        low=0.0,
        high=1.0,
        looseness=at_most_if_any,
    )
    max_acceleration: float = parameter(
        0.0,
        "Limit of the acceleration of joint commands, rad/s^2 (m/s^2 for a prismatic joint), of "
        "the vector of all joints, so that none exceeds it; 0: none.",
        low=0.0,
        high=1000.0,
        looseness=at_most_if_any,
    )
    max_jerk: float = parameter(
        0.0,
        "Limit of their jerk, rad/s^3, likewise; 0: none.",
        low=0.0,
        high=100_000.0,
        looseness=at_most_if_any,
    )

    def _problems(self) -> Iterator[tuple[str, str]]:
        try:
            parse_limits(self.limits)
        except ValueError as error:
            raise ValueError(f"parameter 'joints.limits' is {error}") from error
        if 0.0 < self.stop_rad >= self.slow_rad:
            yield "stop_rad", f"less than 'joints.slow_rad', {self.slow_rad:g}"
        acceleration, jerk = self.max_acceleration, self.max_jerk
        if 0.0 < acceleration < LEAST_ACCELERATION:
            yield "max_acceleration", f"0, or {LEAST_ACCELERATION:g} to 1000"
        if jerk > 0.0 and acceleration == 0.0:
            yield "max_acceleration", "a limit (rad/s^2), as 'joints.max_jerk' is set"
        elif jerk > 0.0 and 2.0 * acceleration / jerk > SETTLE_SEC:
            yield "max_jerk", f"at least {2.0 * acceleration / SETTLE_SEC:g}, or 0"


@dataclass(frozen=True)
class SingularityParameters(Parameters):
    """Limits near a singularity."""

    slow: float = parameter(
        0.0,
        "Condition number of the Jacobian from which motion towards a singularity is slowed down "
        "(MoveIt Servo: 17); 0: not looked at.",
        low=0.0,
        high=10_000.0,
        looseness=at_most_if_any,
    )
    stop: float = parameter(
        0.0,
        "Condition number at which motion towards a singularity is stopped (MoveIt Servo: 30); "
        "more than singularity.slow.",
        low=0.0,
        high=10_000.0,
        looseness=at_most_if_any,
    )

    def _problems(self) -> Iterator[tuple[str, str]]:
        if self.slow > 0.0 and self.stop <= self.slow:
            yield "stop", f"more than 'singularity.slow', {self.slow:g}"


@dataclass(frozen=True)
class CollisionParameters(Parameters):
    """Limits of the distance between links, and to the table."""

    slow_m: float = parameter(
        0.0,
        "Distance (m) between links, or of a link from the table, from which their approach is "
        "slowed down; needs collision elements in the URDF; 0: not looked at.",
        low=0.0,
        high=1.0,
    )
    stop_m: float = parameter(
        0.0,
        "Distance (m) at which their approach is stopped; less than collision.slow_m, and more "
        "than command.max_lead_m where poses are sent.",
        low=0.0,
        high=1.0,
        looseness=at_least,
    )
    table_z: float = parameter(
        NO_TABLE,
        "Height (m) of the table in robot.base_frame; -10: there is none.",
        low=NO_TABLE,
        high=-NO_TABLE,
        looseness=at_least,
    )
    srdf: str = parameter(
        "", "Path of an SRDF file whose disabled pairs of links may touch; empty: none."
    )

    def _problems(self) -> Iterator[tuple[str, str]]:
        if 0.0 < self.stop_m >= self.slow_m:
            yield "stop_m", f"less than 'collision.slow_m', {self.slow_m:g}"
        if self.table_z > NO_TABLE and self.slow_m == 0.0:
            yield "table_z", "-10 (no table), or any with 'collision.slow_m'"

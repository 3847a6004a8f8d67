"""Parameters of the VLA node that bound its commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heisd_ros.robot.declare import at_least, at_most, at_most_if_any, parameter
from heisd_ros.safety.collision import NO_TABLE

Corner = tuple[float, float, float]
_FAR_M = 10.0
STOP_SEC = 0.4
"""Longest time of a halt, s: where acceleration and jerk are too low for it, it is harder."""
SETTLE_SEC = 5.0
"""Longest time, s, that acceleration and jerk may need from the largest speed to a stand."""


def _wall(axis: str, end: str) -> Any:
    least = end == "min"
    return parameter(
        f"workspace.{axis}_{end}",
        -_FAR_M if least else _FAR_M,
        f"{'Least' if least else 'Largest'} {axis} (m) of the tip in robot.base_frame.",
        low=-_FAR_M,
        high=_FAR_M,
        live=True,
        own=True,
        looseness=at_least if least else at_most,
    )


@dataclass(frozen=True)
class LimitParameters:
    """What a command may be, and where it may lead. Most may change live."""

    max_linear_step: float = parameter(
        "command.max_linear_step",
        0.0,
        "Limit of the motion of one control step, m; a longer one is scaled down whole; 0: none.",
        low=0.0,
        high=1.0,
        live=True,
        looseness=at_most_if_any,
    )
    max_angular_step: float = parameter(
        "command.max_angular_step",
        0.0,
        "Limit of the turn of one control step, rad; a longer one is scaled down whole; 0: none.",
        low=0.0,
        high=3.2,
        live=True,
        looseness=at_most_if_any,
    )
    max_linear_speed: float = parameter(
        "command.max_linear_speed",
        2.0,
        "Limit of the commanded speed, m/s; a faster twist is scaled down whole.",
        low=0.001,
        high=10.0,
        live=True,
        own=True,
        looseness=at_most,
    )
    max_angular_speed: float = parameter(
        "command.max_angular_speed",
        20.0,
        "Limit of the commanded angular speed, rad/s; a faster twist is scaled down whole.",
        low=0.001,
        high=100.0,
        live=True,
        own=True,
        looseness=at_most,
    )
    max_linear_acceleration: float = parameter(
        "command.max_linear_acceleration",
        0.0,
        "Limit of the commanded acceleration, m/s^2; 0: none.",
        low=0.0,
        high=100.0,
        live=True,
        own=True,
        looseness=at_most_if_any,
    )
    max_angular_acceleration: float = parameter(
        "command.max_angular_acceleration",
        0.0,
        "Limit of the commanded angular acceleration, rad/s^2, likewise; 0: none.",
        low=0.0,
        high=1000.0,
        live=True,
        own=True,
        looseness=at_most_if_any,
    )
    max_linear_jerk: float = parameter(
        "command.max_linear_jerk",
        0.0,
        "Limit of the commanded jerk, m/s^3; 0: none. A halt takes up to 2 x acceleration / jerk "
        "longer.",
        low=0.0,
        high=10_000.0,
        live=True,
        looseness=at_most_if_any,
    )
    max_angular_jerk: float = parameter(
        "command.max_angular_jerk",
        0.0,
        "Limit of the commanded angular jerk, rad/s^3, likewise; 0: none.",
        low=0.0,
        high=100_000.0,
        live=True,
        looseness=at_most_if_any,
    )
    stop_linear_deceleration: float = parameter(
        "command.stop_linear_deceleration",
        0.0,
        "Deceleration of a halt, m/s^2, where it is to be more than "
        "command.max_linear_acceleration; 0: as that. A halt that would take longer than 0.4 s is "
        "harder in any case.",
        low=0.0,
        high=100.0,
        live=True,
        looseness=at_least,
    )
    stop_angular_deceleration: float = parameter(
        "command.stop_angular_deceleration",
        0.0,
        "Angular deceleration of a halt, rad/s^2, likewise.",
        low=0.0,
        high=1000.0,
        live=True,
        looseness=at_least,
    )
    controller_timeout_sec: float = parameter(
        "command.controller_timeout_sec",
        0.2,
        "Time (s) without a command after which the arm's controller stops by itself (MoveIt "
        "Servo's incoming_command_timeout is 0.1): after a longer gap commands start from rest.",
        low=0.02,
        high=1.0,
    )
    workspace_x_min: float = _wall("x", "min")
    workspace_x_max: float = _wall("x", "max")
    workspace_y_min: float = _wall("y", "min")
    workspace_y_max: float = _wall("y", "max")
    workspace_z_min: float = _wall("z", "min")
    workspace_z_max: float = _wall("z", "max")
    joint_limits: tuple[str, ...] = parameter(
        "joints.limits",
        ("",),
        "Position limits that replace those of the URDF: 'NAME LOWER UPPER', rad; empty: none.",
    )
    joint_slow_rad: float = parameter(
        "joints.slow_rad",
        0.0,
        "Distance (rad) from a joint's limit from which motion towards it is slowed down; 0: joint "
        "limits are not looked at.",
        low=0.0,
        high=1.0,
        live=True,
        looseness=at_least,
    )
    joint_stop_rad: float = parameter(
        "joints.stop_rad",
        0.0,
        "Distance (rad) from a joint's limit at which motion towards it is stopped; less than "
        "joints.slow_rad.",
        low=0.0,
        high=1.0,
        live=True,
        looseness=at_least,
    )
    singularity_slow: float = parameter(
        "singularity.slow",
        0.0,
        "Condition number of the Jacobian from which motion towards a singularity is slowed down "
        "(MoveIt Servo: 17); 0: not looked at.",
        low=0.0,
        high=10_000.0,
        live=True,
        looseness=at_most_if_any,
    )
    singularity_stop: float = parameter(
        "singularity.stop",
        0.0,
        "Condition number at which motion towards a singularity is stopped (MoveIt Servo: 30); "
        "more than singularity.slow.",
        low=0.0,
        high=10_000.0,
        live=True,
        looseness=at_most_if_any,
    )
    joint_velocity_scale: float = parameter(
        "joints.velocity_scale",
        0.0,
        "Share of the URDF's velocity limits that joints may move at; a twist that needs more is "
        "scaled down whole; 0: not looked at.",
        low=0.0,
        high=1.0,
        live=True,
        looseness=at_most_if_any,
    )
    collision_slow_m: float = parameter(
        "collision.slow_m",
        0.0,
        "Distance (m) between links, or of a link from the table, from which their approach is "
        "slowed down; needs collision elements in the URDF; 0: not looked at.",
        low=0.0,
        high=1.0,
    )
    collision_stop_m: float = parameter(
        "collision.stop_m",
        0.0,
        "Distance (m) at which their approach is stopped; less than collision.slow_m, and more "
        "than command.max_lead_m where poses are sent.",
        low=0.0,
        high=1.0,
        live=True,
        looseness=at_least,
    )
    collision_table_z: float = parameter(
        "collision.table_z",
        NO_TABLE,
        "Height (m) of the table in robot.base_frame; -10: there is none.",
        low=NO_TABLE,
        high=-NO_TABLE,
        live=True,
        looseness=at_least,
    )
    collision_srdf: str = parameter(
        "collision.srdf",
        "",
        "Path of an SRDF file whose disabled pairs of links may touch; empty: none.",
    )

    @property
    def workspace(self) -> tuple[Corner, Corner]:
        """Least and largest corner of the box that the tip stays in, m, `robot.base_frame`."""
        return (
            (self.workspace_x_min, self.workspace_y_min, self.workspace_z_min),
            (self.workspace_x_max, self.workspace_y_max, self.workspace_z_max),
        )

    @property
    def bounded(self) -> bool:
        """Whether the workspace has sides of its own: each is less than the default, 20 m."""
        low, high = self.workspace
        return all(b - a < 2.0 * _FAR_M for a, b in zip(low, high, strict=True))

"""Parameters of the VLA node's commands: their form, limits and timing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from heisd_ros.robot.declare import Parameters, at_least, at_most, at_most_if_any, parameter
from heisd_ros.robot.topic_parameters import INTERFACES

STOP_SEC = 0.4
"""Longest duration of a halt, s: if acceleration and jerk are too low, the halt is harder."""
SETTLE_SEC = 5.0
"""Longest time, s, that acceleration and jerk may need from the largest speed to a stop."""
LEAST_RATE_HZ = 5.0
"""Least rate of commands: a hold is sent with the next one."""
_LEAST_TIMEOUT_SEC = 0.02
JOINT_INTERFACES = tuple(name for name, kind in INTERFACES.items() if kind.joints)
"""Values of `command.interface` that command the joints."""


@dataclass(frozen=True)
class CommandParameters(Parameters):
    """Conversion of actions to commands, the limits of motion, and timing."""

    interface: str = parameter(
        "twist",
        "What is sent to the arm: a twist (MoveIt Servo), a target pose (Cartesian controllers), "
        "the action as the model gave it, to which no limit of this node applies, or velocities or "
        "positions of the joints (ros2_control).",
        choices=tuple(INTERFACES),
        own=True,
    )
    joint_message: str = parameter(
        "array",
        "Message of joint commands: std_msgs/Float64MultiArray in the order of robot.joint_names "
        "(forward_command_controller, JointGroupVelocityController), or "
        "trajectory_msgs/JointTrajectory of one point (joint_trajectory_controller).",
        choices=("array", "trajectory"),
    )
    joint_scale: float = parameter(
        1.0,
        "rad/s for one unit of an action's joint velocities (DROID: 3), or rad for one unit of its "
        "joint positions; m where a joint is prismatic.",
        low=0.000001,
        high=100.0,
    )
    frame_id: str = parameter(
        "",
        "Frame of the command (REP 105): robot.base_frame, or robot.tip_frame for twists along the "
        "axes of the end effector; empty: robot.base_frame.",
        own=True,
    )
    targets_in_root: bool = parameter(
        False,
        "The controller takes target poses in the root of the robot description, whatever frame "
        "they name (crisp_controllers): a robot.base_frame that lies elsewhere is refused.",
    )
    translation_scale: float = parameter(
        0.05,
        "Metres in a control step for one unit of the action's translation.",
        low=0.0,
        high=10.0,
    )
    rotation_scale: float = parameter(
        0.5, "Radians in a control step for one unit of the action's rotation.", low=0.0, high=10.0
    )
    rotation_convention: str = parameter(
        "rotation_vector",
        "What the action's three rotation numbers are: a rotation vector (LIBERO), or roll, pitch "
        "and yaw about the fixed axes x, y, z (OpenVLA on BridgeData).",
        choices=("rotation_vector", "roll_pitch_yaw"),
    )
    max_lead_m: float = parameter(
        0.05,
        "How far (m) a target pose may be ahead of the measured one; one that is further away is "
        "led back within the limits.",
        low=0.001,
        high=1.0,
    )
    max_lead_rad: float = parameter(
        0.3,
        "How far (rad) a target pose may be turned ahead of the measured one, or each joint of "
        "target joint positions, likewise.",
        low=0.001,
        high=3.0,
    )
    units: str = parameter(
        "si",
        "Units of the twist: m/s and rad/s, or unitless shares of command.unitless_linear and "
        "command.unitless_angular, as MoveIt Servo may be set to take.",
        choices=("si", "unitless"),
    )
    unitless_linear: float = parameter(
        0.4, "Speed (m/s) that a unitless 1 stands for: Servo's scale.linear.", low=0.001, high=10.0
    )
    unitless_angular: float = parameter(
        0.8,
        "Angular speed (rad/s) that a unitless 1 stands for: Servo's scale.rotational.",
        low=0.001,
        high=100.0,
    )
    stamp: str = parameter(
        "now",
        "Stamp of the command: the time it is published, as controllers want it, or that of the "
        "observation that it answers, as the lock-step simulation wants it. Then a halt is not "
        "ramped.",
        choices=("now", "observation"),
    )
    rate_hz: float = parameter(
        0.0,
        "Rate (Hz) of the command, which approaches the newest action within the limits while that "
        "is younger than command.max_action_age_sec; 0: sent once for each action.",
        low=0.0,
        high=500.0,
    )
    max_action_age_sec: float = parameter(
        1.0,
        "Age (s, steady clock) of the newest action from which the arm is stopped.",
        low=0.02,
        high=30.0,
        looseness=at_most,
    )
    max_linear_step: float = parameter(
        0.0,
        "Limit of the motion of one control step, m; a longer one is scaled down whole; 0: none.",
        low=0.0,
        high=1.0,
        looseness=at_most_if_any,
    )
    max_angular_step: float = parameter(
        0.0,
        "Limit of the turn of one control step, rad; a longer one is scaled down whole; 0: none.",
        low=0.0,
        high=3.2,
        looseness=at_most_if_any,
    )
    max_linear_speed: float = parameter(
        2.0,
        "Limit of the commanded speed, m/s; a faster twist is scaled down whole.",
        low=0.001,
        high=10.0,
        own=True,
        looseness=at_most,
    )
    max_angular_speed: float = parameter(
        20.0,
        "Limit of the commanded angular speed, rad/s; a faster twist is scaled down whole.",
        low=0.001,
        high=100.0,
        own=True,
        looseness=at_most,
    )
    max_linear_acceleration: float = parameter(
        0.0,
        "Limit of the commanded acceleration, m/s^2; 0: none.",
        low=0.0,
        high=100.0,
        own=True,
        looseness=at_most_if_any,
    )
    max_angular_acceleration: float = parameter(
        0.0,
        "Limit of the commanded angular acceleration, rad/s^2, likewise; 0: none.",
        low=0.0,
        high=1000.0,
        own=True,
        looseness=at_most_if_any,
    )
    max_linear_jerk: float = parameter(
        0.0,
        "Limit of the commanded jerk, m/s^3; 0: none. A halt takes up to 2 x acceleration / jerk "
        "longer.",
        low=0.0,
        high=10_000.0,
        looseness=at_most_if_any,
    )
    max_angular_jerk: float = parameter(
        0.0,
        "Limit of the commanded angular jerk, rad/s^3, likewise; 0: none.",
        low=0.0,
        high=100_000.0,
        looseness=at_most_if_any,
    )
    stop_linear_deceleration: float = parameter(
        0.0,
        "Deceleration of a halt, m/s^2, where it is to be more than "
        "command.max_linear_acceleration; 0: as that. A halt that would take longer than 0.4 s is "
        "harder in any case.",
        low=0.0,
        high=100.0,
        looseness=at_least,
    )
    stop_angular_deceleration: float = parameter(
        0.0,
        "Angular deceleration of a halt, rad/s^2, likewise.",
        low=0.0,
        high=1000.0,
        looseness=at_least,
    )
    controller_timeout_sec: float = parameter(
        0.2,
        "Time (s) without a command after which the arm's controller stops by itself (MoveIt "
        "Servo's incoming_command_timeout is 0.1): after a longer gap commands start from rest. 0: "
        "it never does (ros2_control's velocity controllers), and commands continue.",
        low=0.0,
        high=1.0,
    )
    late_share: float = parameter(
        0.5,
        "Share of the period of command.rate_hz by which a late command is late; those are counted "
        "in diagnostics.",
        low=0.01,
        high=10.0,
    )
    late_limit: float = parameter(
        0.05,
        "Share of the last 200 commands that may be late; above it there is a warning.",
        low=0.0,
        high=1.0,
    )

    @property
    def of_joints(self) -> bool:
        """Whether the joints are commanded, and not the tip."""
        return self.interface in JOINT_INTERFACES

    @property
    def of_speeds(self) -> bool:
        """Whether velocities are commanded, and not positions."""
        return INTERFACES[self.interface].speeds

    @property
    def timeout_sec(self) -> float:
        """Time without a command after which the arm has stopped by itself, s; infinite: never."""
        return self.controller_timeout_sec or math.inf

    def _problems(self) -> Iterator[tuple[str, str]]:
        if 0.0 < self.controller_timeout_sec < _LEAST_TIMEOUT_SEC:
            yield "controller_timeout_sec", f"0, or {_LEAST_TIMEOUT_SEC} to 1"
        if 0.0 < self.rate_hz < LEAST_RATE_HZ:
            yield (
                "rate_hz",
                f"0, or {LEAST_RATE_HZ:g} to 500: a stop goes out with the next command",
            )
        in_steps = self.stamp == "observation"
        if in_steps and self.of_joints:
            yield "stamp", f"'now', as 'command.interface' is {self.interface!r}"
        if in_steps and self.rate_hz > 0.0:
            yield "rate_hz", "0, as 'command.stamp' is 'observation'"
        linear = self.max_linear_speed, self.max_linear_acceleration, self.max_linear_jerk
        angular = self.max_angular_speed, self.max_angular_acceleration, self.max_angular_jerk
        for part, unit, (speed, acceleration, jerk), deceleration, unit_speed in (
            ("linear", "m/s", linear, self.stop_linear_deceleration, self.unitless_linear),
            ("angular", "rad/s", angular, self.stop_angular_deceleration, self.unitless_angular),
        ):
            if acceleration > 0.0 and self.rate_hz == 0.0 and not in_steps:
                yield "rate_hz", f"a rate (Hz), as 'command.max_{part}_acceleration' is set"
            if acceleration == 0.0 and jerk > 0.0:
                accepted = f"a limit ({unit}^2), as 'command.max_{part}_jerk' is set"
                yield f"max_{part}_acceleration", accepted
            ramp = speed / acceleration if acceleration > 0.0 else 0.0
            bend = 2.0 * acceleration / jerk if jerk > 0.0 else 0.0
            if ramp + bend > SETTLE_SEC:
                yield (
                    f"max_{part}_{'acceleration' if ramp > bend else 'jerk'}",
                    "one with which speed / acceleration + 2 x acceleration / jerk, "
                    f"{ramp + bend:.3g} s, is up to {SETTLE_SEC:g} s",
                )
            if deceleration > 0.0 and (acceleration == 0.0 or deceleration < acceleration):
                accepted = f"0, or at least 'command.max_{part}_acceleration', where that is set"
                yield f"stop_{part}_deceleration", accepted
            if self.units == "unitless" and speed > unit_speed:
                accepted = f"up to 'command.unitless_{part}', {unit_speed:g} {unit}"
                yield f"max_{part}_speed", accepted

"""Builds the safety filter's limits from the parameters. Imports no ROS."""

from __future__ import annotations

import math

import numpy as np

from heisd_ros.robot.command_parameters import STOP_SEC
from heisd_ros.robot.limit_parameters import CollisionParameters
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.safety.collision import CollisionGuard
from heisd_ros.safety.joints import JointGuard, parse_limits
from heisd_ros.safety.limits import PartLimits, SafetyLimits
from heisd_ros.safety.workspace import Workspace


def safety_limits(settings: VlaNodeParameters) -> SafetyLimits:
    """Returns all limits of a command."""
    command, joints = settings.command, settings.joints
    linear = PartLimits(
        step=command.max_linear_step or math.inf,
        speed=command.max_linear_speed,
        acceleration=command.max_linear_acceleration or math.inf,
        jerk=command.max_linear_jerk or math.inf,
        deceleration=command.stop_linear_deceleration,
    )
    angular = PartLimits(
        step=command.max_angular_step or math.inf,
        speed=command.max_angular_speed,
        acceleration=command.max_angular_acceleration or math.inf,
        jerk=command.max_angular_jerk or math.inf,
        deceleration=command.stop_angular_deceleration,
    )
    guard = JointGuard(
        slow_rad=joints.slow_rad,
        stop_rad=joints.stop_rad,
        singularity_slow=settings.singularity.slow,
        singularity_stop=settings.singularity.stop,
        limits=parse_limits(joints.limits),
        velocity_scale=joints.velocity_scale,
        collision=collision_guard(settings.collision),
    )
    box = Workspace(*map(np.array, settings.workspace.corners))
    return SafetyLimits(linear, angular, box, guard, halt_sec=STOP_SEC)


def collision_guard(collision: CollisionParameters) -> CollisionGuard:
    """Returns the guard that keeps links off each other and the table."""
    return CollisionGuard(collision.slow_m, collision.stop_m, collision.table_z)

"""The safety filter's limits, as the parameters say. Knows no ROS."""

from __future__ import annotations

import math

import numpy as np

from heisd_ros.robot.limit_parameters import STOP_SEC, LimitParameters
from heisd_ros.safety.collision import CollisionGuard
from heisd_ros.safety.joints import JointGuard, parse_limits
from heisd_ros.safety.limits import PartLimits, SafetyLimits
from heisd_ros.safety.workspace import Workspace


def safety_limits(parameters: LimitParameters) -> SafetyLimits:
    """Everything that bounds a command."""
    settings = parameters
    linear = PartLimits(
        step=settings.max_linear_step or math.inf,
        speed=settings.max_linear_speed,
        acceleration=settings.max_linear_acceleration or math.inf,
        jerk=settings.max_linear_jerk or math.inf,
        deceleration=settings.stop_linear_deceleration,
    )
    angular = PartLimits(
        step=settings.max_angular_step or math.inf,
        speed=settings.max_angular_speed,
        acceleration=settings.max_angular_acceleration or math.inf,
        jerk=settings.max_angular_jerk or math.inf,
        deceleration=settings.stop_angular_deceleration,
    )
    joints = JointGuard(
        slow_rad=settings.joint_slow_rad,
        stop_rad=settings.joint_stop_rad,
        singularity_slow=settings.singularity_slow,
        singularity_stop=settings.singularity_stop,
        limits=parse_limits(settings.joint_limits),
        velocity_scale=settings.joint_velocity_scale,
        collision=collision_guard(settings),
    )
    box = Workspace(*map(np.array, settings.workspace))
    return SafetyLimits(linear, angular, box, joints, halt_sec=STOP_SEC)


def collision_guard(parameters: LimitParameters) -> CollisionGuard:
    """What keeps links off each other and the table."""
    return CollisionGuard(
        parameters.collision_slow_m, parameters.collision_stop_m, parameters.collision_table_z
    )

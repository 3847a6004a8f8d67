"""Builds the safety filter's limits from the parameters. Imports no ROS."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from heisd_ros.robot.command_parameters import STOP_SEC
from heisd_ros.robot.limit_parameters import CollisionParameters
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.safety.collision import CollisionGuard
from heisd_ros.safety.joint_filter import JointLimits
from heisd_ros.safety.joints import JointGuard, parse_limits
from heisd_ros.safety.limits import PartLimits, SafetyLimits
from heisd_ros.safety.workspace import Workspace

SLOW_RAD = 0.1
"""`joints.slow_rad` of commanded joints where it is 0, rad."""


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


def joint_limits(settings: VlaNodeParameters) -> JointLimits:
    """Returns all limits of a command of the joints; joint limits are always among them."""
    joints, limits = settings.joints, safety_limits(settings)
    assert limits.joints is not None
    guard = replace(
        limits.joints,
        slow_rad=joints.slow_rad or SLOW_RAD,
        velocity_scale=joints.velocity_scale or 1.0,
        singularity_slow=0.0,
    )
    return JointLimits(
        joints=PartLimits(
            acceleration=joints.max_acceleration or math.inf, jerk=joints.max_jerk or math.inf
        ),
        guard=guard,
        linear=limits.linear,
        angular=limits.angular,
        workspace=limits.workspace,
        halt_sec=STOP_SEC,
    )


def in_force(settings: VlaNodeParameters) -> VlaNodeParameters:
    """Returns the parameters with what a 0 stands for where joints are commanded."""
    if not settings.command.of_joints:
        return settings
    slow_rad = settings.joints.slow_rad or SLOW_RAD
    return replace(settings, joints=replace(settings.joints, slow_rad=slow_rad))


def tip_limits(settings: VlaNodeParameters) -> SafetyLimits:
    """Returns the limits of a twist that joints are commanded for: those that are not theirs."""
    limits, singularity = safety_limits(settings), settings.singularity
    guard = JointGuard(singularity_slow=singularity.slow, singularity_stop=singularity.stop)
    return replace(limits, joints=guard)


def collision_guard(collision: CollisionParameters) -> CollisionGuard:
    """Returns the guard that keeps links off each other and the table."""
    return CollisionGuard(collision.slow_m, collision.stop_m, collision.table_z)

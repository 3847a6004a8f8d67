"""Builds the arm that the parameters describe from its URDF. Imports no ROS."""

from __future__ import annotations

import math

import numpy as np

from heisd_ros.errors import JointStateError, UrdfError
from heisd_ros.files.bounded import expanded, read_text
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.geometry import ArmGeometry
from heisd_ros.kinematics.joint_states import JointStateReader
from heisd_ros.kinematics.robots import panda_urdf
from heisd_ros.robot.command_parameters import SETTLE_SEC
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.safety_limits import collision_guard
from heisd_ros.safety.joints import JointGuard, parse_limits


def make_reader(parameters: VlaNodeParameters, urdf: str) -> JointStateReader:
    """Builds the arm of a URDF text, as the parameters describe it.

    Raises:
        UrdfError, JointStateError: The text is not a URDF, or lacks a frame or joint; the
            message is one line that names the parameters.
    """
    tip, base = parameters.robot.tip_frame, parameters.robot.base_frame
    try:
        kinematics = ArmKinematics(urdf, tip, parameters.robot.joint_names, base)
    except UrdfError as error:
        frames = f"'robot.tip_frame' {tip!r} and 'robot.base_frame' {base!r}"
        raise UrdfError(f"{frames}: {' '.join(str(error).split())}") from error
    except JointStateError as error:
        raise JointStateError(f"parameter 'robot.joint_names': {error}") from error
    limits = parse_limits(parameters.joints.limits)
    if parameters.command.targets_in_root and not kinematics.base_is_root():
        raise UrdfError(
            f"parameter 'robot.base_frame' is {base!r}, which is not at the root of the "
            "robot description; accepted: the root link, or one fixed to it without an offset, as "
            "'command.targets_in_root' is true"
        )
    if parameters.command.of_joints:
        check_speeds(parameters, kinematics)
    try:
        JointGuard(limits=limits).check(kinematics)
    except JointStateError as error:
        raise JointStateError(f"parameter 'joints.limits': {error}") from error
    if parameters.collision.slow_m > 0.0:
        srdf = _text("collision.srdf", parameters.collision.srdf)
        try:
            kinematics.geometry = ArmGeometry(urdf, kinematics, srdf)
        except UrdfError as error:
            kinematics.geometry_fault = str(error)
    return JointStateReader(
        kinematics,
        parameters.robot.gripper_joints,
        parameters.input.gripper_timeout_sec,
        limits,
        parameters.gripper.finger_travel(),
    )


def check_speeds(parameters: VlaNodeParameters, kinematics: ArmKinematics) -> None:
    """Checks that every commanded joint has a limit of its speed, from which it can stop.

    Raises:
        JointStateError: One has none, or `joints.max_acceleration` is too low.
    """
    speeds = kinematics.velocity_limits
    fast = zip(kinematics.joint_names, speeds.tolist(), strict=True)
    free = [name for name, limit in fast if math.isinf(limit)]
    interface = parameters.command.interface
    if free:
        raise JointStateError(
            f"the robot description has no velocity limit for {free}; accepted: one for every "
            f"joint, as 'command.interface' is {interface!r}"
        )
    most = float(np.linalg.norm(speeds)) * (parameters.joints.velocity_scale or 1.0)
    acceleration, jerk = parameters.joints.max_acceleration, parameters.joints.max_jerk
    bend = 2.0 * acceleration / jerk if jerk > 0.0 else 0.0
    if acceleration > 0.0 and most / acceleration + bend > SETTLE_SEC:
        also = " and a higher 'joints.max_jerk'" if bend > 0.0 else ""
        raise JointStateError(
            f"parameter 'joints.max_acceleration' is {acceleration:g}; accepted: at least "
            f"{most / SETTLE_SEC:.3g}{also}, with which all joints stop from their limits of speed "
            f"in {SETTLE_SEC:g} s, or 0"
        )


def urdf_text(parameters: VlaNodeParameters) -> str:
    """Returns the built-in Panda's URDF, or that of the file `robot.urdf`.

    Raises:
        UrdfError: It cannot be read; the message names the parameter.
    """
    if parameters.robot.source == "panda":
        return panda_urdf()
    return _text("robot.urdf", parameters.robot.urdf)


def unguarded(parameters: VlaNodeParameters, kinematics: ArmKinematics | None) -> list[str]:
    """Returns the limits that are set but cannot be checked, since the description lacks data."""
    if kinematics is None:
        return []
    gaps, guard = [], collision_guard(parameters.collision)
    fast = zip(kinematics.joint_names, kinematics.velocity_limits, strict=True)
    free = [name for name, limit in fast if math.isinf(limit)]
    if parameters.joints.velocity_scale > 0.0 and free:
        gaps.append(f"joints.velocity_scale: the URDF has no velocity limit for {free}")
    if guard.slow_m > 0.0:
        geometry, fault = kinematics.geometry, kinematics.geometry_fault
        missing = guard.gaps(geometry) if geometry else [f"any collision, as {fault}"]
        gaps += [f"collision.slow_m: not looked at: {each}" for each in missing]
    return gaps


def touching(parameters: VlaNodeParameters, kinematics: ArmKinematics | None) -> list[str]:
    """Returns the pairs of links whose distance is not checked, since they always touch."""
    geometry = kinematics.geometry if kinematics else None
    return collision_guard(parameters.collision).touching(geometry) if geometry else []


def _text(name: str, value: str) -> str:
    """Reads the file that a parameter names; empty if it names none.

    Raises:
        UrdfError: It cannot be read; the message names the parameter.
    """
    if not value:
        return ""
    return read_text(expanded(value), lambda problem: UrdfError(f"parameter '{name}': {problem}"))

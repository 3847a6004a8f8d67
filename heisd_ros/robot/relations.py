"""Which values of the VLA node's parameters fit each other, beyond the range of each one."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

from heisd_ros.robot.declare import parameters_of
from heisd_ros.robot.limit_parameters import SETTLE_SEC
from heisd_ros.safety.collision import NO_TABLE

if TYPE_CHECKING:
    from heisd_ros.robot.parameters import VlaNodeParameters


def check_given(settings: VlaNodeParameters, given: Container[str]) -> None:
    """Checks that a robot has given what is its own: no other one's limits may stand in for them.

    Args:
        settings: the settings.
        given: names of the parameters that were given a value.

    Raises:
        ValueError: names the first parameter that is missing.
    """
    if settings.robot_source == "panda":
        return
    for _, info in parameters_of(type(settings)):
        if info.own and info.name not in given:
            raise ValueError(
                f"parameter '{info.name}' is missing; accepted: the robot's own value, as "
                f"'robot.source' is {settings.robot_source!r}"
            )


def relations(settings: VlaNodeParameters) -> Iterator[tuple[str, object, bool, str]]:
    """Every rule that takes more than one parameter.

    Yields:
        Name of the parameter to change, its value, whether it is wrong, what is accepted.
    """
    yield (
        "robot.urdf",
        settings.robot_urdf,
        settings.robot_source == "file" and not settings.robot_urdf,
        "the path of a URDF file, as 'robot.source' is 'file'",
    )
    for name in ("tip_frame", "base_frame"):
        value = getattr(settings, f"robot_{name}")
        yield (f"robot.{name}", value, not value, "a link of the URDF")
    yield (
        "robot.joint_names",
        list(settings.robot_joint_names),
        not settings.robot_joint_names or "" in settings.robot_joint_names,
        "the names of the arm's joints",
    )
    yield (
        "gripper.open_action",
        settings.gripper_open_action,
        settings.gripper_open_action == settings.gripper_closed_action,
        "a number other than 'gripper.closed_action'",
    )
    yield (
        "gripper.action_name",
        settings.gripper_action_name,
        settings.gripper_action.endswith("_command") and not settings.gripper_action_name,
        "the name of an action server, as 'gripper.action' is set",
    )
    yield (
        "gripper.joint",
        settings.gripper_joint,
        settings.gripper_action == "joint_state"
        and not (settings.gripper_joint or any(settings.robot_gripper_joints)),
        "the name of a joint, as 'gripper.action' is 'joint_state'",
    )
    yield (
        "servo.node",
        settings.servo_node,
        bool(settings.servo_node) and settings.interface == "delta",
        "'', as 'command.interface' is 'delta', which Servo does not take",
    )
    yield (
        "growth.folder",
        settings.growth_folder,
        settings.growth_mode != "off" and not settings.growth_folder,
        f"a folder, as 'growth.mode' is {settings.growth_mode!r}",
    )
    yield (
        "fleet.collection",
        settings.fleet_collection,
        not re.fullmatch(r"[A-Za-z_]\w{0,254}", settings.fleet_collection, re.ASCII),
        "letters, digits and underscores, no digit first",
    )
    base, tip = settings.robot_base_frame, settings.robot_tip_frame
    frames = (base,) if settings.interface == "pose" else (base, tip)
    yield (
        "command.frame_id",
        settings.frame_id,
        settings.frame_id not in frames,
        " or ".join(repr(frame) for frame in frames),
    )
    in_steps = settings.stamp == "observation"
    yield (
        "command.rate_hz",
        settings.rate_hz,
        in_steps and settings.rate_hz > 0.0,
        "0, as 'command.stamp' is 'observation'",
    )
    for part, unit in (("linear", "m/s"), ("angular", "rad/s")):
        speed = getattr(settings, f"max_{part}_speed")
        acceleration = getattr(settings, f"max_{part}_acceleration")
        yield (
            "command.rate_hz",
            settings.rate_hz,
            acceleration > 0.0 and settings.rate_hz == 0.0 and not in_steps,
            f"a rate (Hz), as 'command.max_{part}_acceleration' is set",
        )
        yield (
            f"command.max_{part}_acceleration",
            acceleration,
            acceleration == 0.0 and getattr(settings, f"max_{part}_jerk") > 0.0,
            f"a limit ({unit}^2), as 'command.max_{part}_jerk' is set",
        )
        jerk = getattr(settings, f"max_{part}_jerk")
        settle = speed / acceleration if acceleration > 0.0 else 0.0
        settle += 2.0 * acceleration / jerk if jerk > 0.0 else 0.0
        slow = "acceleration" if settle > 0.0 and speed / acceleration > settle / 2.0 else "jerk"
        yield (
            f"command.max_{part}_{slow}",
            getattr(settings, f"max_{part}_{slow}"),
            settle > SETTLE_SEC,
            f"one with which speed / acceleration + 2 x acceleration / jerk, {settle:.3g} s, is up "
            f"to {SETTLE_SEC:g} s",
        )
        deceleration = getattr(settings, f"stop_{part}_deceleration")
        yield (
            f"command.stop_{part}_deceleration",
            deceleration,
            deceleration > 0.0 and (acceleration == 0.0 or deceleration < acceleration),
            f"0, or at least 'command.max_{part}_acceleration', where that is set",
        )
        unit_speed = getattr(settings, f"unitless_{part}")
        yield (
            f"command.max_{part}_speed",
            speed,
            settings.units == "unitless" and speed > unit_speed,
            f"up to 'command.unitless_{part}', {unit_speed:g} {unit}",
        )
    for axis, low, high in zip("xyz", *settings.workspace, strict=True):
        yield (f"workspace.{axis}_min", low, low >= high, f"less than {axis}_max, {high:g}")
    yield (
        "joints.stop_rad",
        settings.joint_stop_rad,
        settings.joint_stop_rad > 0.0 and settings.joint_stop_rad >= settings.joint_slow_rad,
        f"less than 'joints.slow_rad', {settings.joint_slow_rad:g}",
    )
    yield (
        "singularity.stop",
        settings.singularity_stop,
        settings.singularity_slow > 0.0 and settings.singularity_stop <= settings.singularity_slow,
        f"more than 'singularity.slow', {settings.singularity_slow:g}",
    )
    near, stop = settings.collision_slow_m, settings.collision_stop_m
    yield "collision.stop_m", stop, 0.0 < stop >= near, f"less than 'collision.slow_m', {near:g}"
    lead = settings.max_lead_m
    yield (
        "collision.stop_m",
        stop,
        near > 0.0 and settings.interface == "pose" and stop <= lead,
        f"more than 'command.max_lead_m', {lead:g} m, as 'command.interface' is 'pose'",
    )
    table = settings.collision_table_z
    yield (
        "collision.table_z",
        table,
        table > NO_TABLE and near == 0.0,
        "-10 (no table), or any with 'collision.slow_m'",
    )

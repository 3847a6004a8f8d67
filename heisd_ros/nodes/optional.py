"""Imports ROS packages that are used only if they are installed.

A wheel installation of ROS has none of them; one from apt may. The control path needs none.
cv_bridge is not among them: `data.bridge` tries it in a separate process.
"""

from __future__ import annotations

import importlib
from typing import Any

from heisd_ros.errors import MissingPackageError
from heisd_ros.robot.parameters import VlaNodeParameters

_GRIPPER_ACTIONS = {
    "gripper_command": "GripperCommand",
    "parallel_gripper_command": "ParallelGripperCommand",
}


def check(parameters: VlaNodeParameters) -> None:
    """Checks that the packages for `gripper.action` and `servo.node` are installed.

    Raises:
        MissingPackageError: One is not.
    """
    if parameters.gripper.action in _GRIPPER_ACTIONS:
        gripper_action(parameters.gripper.action)
    if parameters.servo.node and parameters.servo.setup == "switch":
        servo_command_type(parameters.servo.node)


def gripper_action(kind: str) -> Any:
    """Returns the action type of `gripper.action`.

    Raises:
        MissingPackageError: control_msgs is not installed, or too old to have it.
    """
    return _import("control_msgs.action", _GRIPPER_ACTIONS[kind], f"'gripper.action' is {kind!r}")


def servo_command_type(node: str) -> Any:
    """Returns the service type that switches MoveIt Servo's command type.

    Args:
        node: The parameter `servo.node`, for the message.

    Raises:
        MissingPackageError: moveit_msgs is not installed, or too old to have it.
    """
    return _import("moveit_msgs.srv", "ServoCommandType", f"'servo.node' is {node!r}")


def diagnostic_updater() -> Any:
    """Returns the class Updater of diagnostic_updater; None if that is not installed."""
    try:
        from diagnostic_updater import Updater
    except ImportError:
        return None
    return Updater


def _import(module: str, name: str, wanted_by: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        package = module.split(".")[0]
        raise MissingPackageError(
            f"parameter {wanted_by}, which needs {name} of the ROS package {package}: {error}; "
            f"install it (ros-<distro>-{package.replace('_', '-')}), or accepted: ''"
        ) from error

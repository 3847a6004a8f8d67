"""Converts a simulated scene's state to the messages of a real arm and its cameras."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Twist
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from heisd_ros.kinematics.robots import PANDA_FINGER_JOINTS, PANDA_JOINTS
from heisd_ros.nodes.sim.arm_scene import ArmScene
from heisd_ros.sim.scene import CONTROL_RATE_HZ, METRES_PER_UNIT, RADIANS_PER_UNIT

FINGER_SIGNS = np.array([1.0, -1.0])
"""LIBERO counts the second finger along -; the URDF opens both along +."""


def joint_state_message(scene: ArmScene, stamp: Time, frame_id: str) -> JointState:
    """Builds the joint states of arm and fingers, with velocities."""
    positions = [*scene.joint_positions(), *(scene.gripper_positions() * FINGER_SIGNS)]
    velocities = [*scene.joint_velocities(), *(scene.gripper_velocities() * FINGER_SIGNS)]
    return JointState(
        header=Header(stamp=stamp, frame_id=frame_id),
        name=[*PANDA_JOINTS, *PANDA_FINGER_JOINTS],
        position=[float(value) for value in positions],
        velocity=[float(value) for value in velocities],
    )


def twist_action(twist: Twist) -> np.ndarray:
    """Converts a twist to the motion part of LIBERO's action of one control step.

    Returns:
        (6,), units of LIBERO's controller, clipped to what it takes.

    Raises:
        ValueError: A number is not finite.
    """
    linear, angular = twist.linear, twist.angular
    velocity = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    if not np.isfinite(velocity).all():
        raise ValueError(f"twist is {velocity.tolist()}; accepted: finite numbers")
    units = np.array([METRES_PER_UNIT] * 3 + [RADIANS_PER_UNIT] * 3)
    return np.clip(velocity / CONTROL_RATE_HZ / units, -1.0, 1.0)

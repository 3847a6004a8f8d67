"""The proprioceptive input of the policy, from what a real arm reports."""

from __future__ import annotations

import numpy as np
import pinocchio as pin

from heisd_ros.kinematics.pose import Pose

PROPRIO_SIZE = 7
STATE_SIZES = {"end_effector": PROPRIO_SIZE, "pose": 8}
"""Numbers of the states that a model may take, by the names of the parameter `model.state`."""

# The tool pointing straight down (tip z = -base z, tip x = base x). Manipulation happens near this
# orientation, so measured from it the rotation vector stays small and continuous; measured from
# the identity it would sit at its seam (an angle of pi) all the time.
TOOL_DOWN = np.diag([1.0, -1.0, -1.0])


def proprio_vector(pose: Pose, gripper_opening: float) -> np.ndarray:
    """Packs the tip pose and the gripper into the policy's proprioceptive input.

    Args:
        pose: pose of the tip frame (`panda_hand_tcp`) in the robot's base frame.
        gripper_opening: distance between the fingers, metres (Panda: 0 closed, 0.08 open).

    Returns:
        Shape (7,), float32: tip position (m, base frame), rotation vector of
        `TOOL_DOWN.T @ rotation` (rad, in the tool-down frame; its only seam is the tool pointing
        half a turn away from tool-down), gripper opening (m).

    Raises:
        ValueError: `gripper_opening` is not finite.
    """
    if not np.isfinite(gripper_opening):
        raise ValueError(f"gripper_opening must be finite (m), got {gripper_opening}")
    turn = pin.log3(TOOL_DOWN.T @ pose.rotation)
    return np.concatenate([pose.position, turn, [gripper_opening]]).astype(np.float32)


def pose_vector(pose: Pose, gripper_opening: float) -> np.ndarray:
    """Packs the tip pose and two fingers as robosuite's Panda reports them.

    Args:
        pose: pose of the tip frame in the robot's base frame.
        gripper_opening: distance between the fingers, metres.

    Returns:
        Shape (8,), float32: tip position (m), rotation vector of the tip's axes in the base frame
        (rad), position of either finger (m): half of the opening, and minus that.

    Raises:
        ValueError: `gripper_opening` is not finite.
    """
    if not np.isfinite(gripper_opening):
        raise ValueError(f"gripper_opening must be finite (m), got {gripper_opening}")
    finger = gripper_opening / 2.0
    turn = pin.log3(np.ascontiguousarray(pose.rotation, np.float64))
    return np.concatenate([pose.position, turn, [finger, -finger]]).astype(np.float32)

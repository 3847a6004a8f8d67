"""Conversion of recorded motion to actions in the model's units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from heisd_ros.data.recording_layout import ActionRule
from heisd_ros.kinematics.pose import Pose


def displacement(before: Pose, after: Pose, in_tip: bool) -> NDArray[np.float64]:
    """Computes the displacement between two poses.

    Args:
        before: In the base frame.
        after: In the base frame.
        in_tip: Along the axes of `before` instead of the base's.

    Returns:
        (6,): translation, m, and rotation vector, rad.
    """
    moved = after.position - before.position
    turned = Rotation.from_matrix(after.rotation @ before.rotation.T).as_rotvec()
    axes = before.rotation.T if in_tip else np.eye(3)
    return np.concatenate([axes @ moved, axes @ turned])


def motion_action(motion: NDArray[np.float64], rule: ActionRule) -> NDArray[np.float64]:
    """Computes the first six numbers of the action that commands a motion.

    Args:
        motion: (6,) of one control step: translation, m, and rotation vector, rad.
        rule: Scales and convention.
    """
    turn = motion[3:]
    if rule.rotation_convention == "roll_pitch_yaw":
        turn = Rotation.from_rotvec(turn).as_euler("xyz")  # about fixed axes
    return np.concatenate([motion[:3] / rule.translation_scale, turn / rule.rotation_scale])


def gripper_action(opening: float, rule: ActionRule) -> float:
    """Returns the gripper's number: open or closed, whichever an opening (m) is nearer to."""
    middle = 0.5 * (rule.open_position + rule.closed_position)
    return rule.open_action if opening > middle else rule.closed_action

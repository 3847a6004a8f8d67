"""Converts poses and twists to messages."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, TwistStamped
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from heisd_ros.kinematics.pose import Pose


def pose_message(
    pose: Pose, stamp: Time, frame_id: str, before: PoseStamped | None = None
) -> PoseStamped:
    """Builds the message of a pose in a frame.

    Args:
        pose: The pose.
        stamp: Stamp of the header.
        frame_id: Frame of the pose.
        before: Previous message of a sequence. Of the two quaternions of an orientation the one
            nearer to the previous is taken, for receivers that filter the four numbers.
    """
    message = PoseStamped(header=Header(stamp=stamp, frame_id=frame_id))
    position, orientation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = map(float, pose.position)
    quaternion = Rotation.from_matrix(pose.rotation).as_quat()
    if before is not None:
        last = before.pose.orientation
        if quaternion @ [last.x, last.y, last.z, last.w] < 0.0:
            quaternion = -quaternion
    orientation.x, orientation.y, orientation.z, orientation.w = map(float, quaternion)
    return message


def twist_message(twist: np.ndarray, stamp: Time, frame_id: str) -> TwistStamped:
    """Builds the message of a twist in a frame.

    Args:
        twist: (6,), linear, then angular.
        stamp: Stamp of the header.
        frame_id: Frame whose axes it is along.
    """
    message = TwistStamped(header=Header(stamp=stamp, frame_id=frame_id))
    linear, angular = message.twist.linear, message.twist.angular
    linear.x, linear.y, linear.z = map(float, twist[:3])
    angular.x, angular.y, angular.z = map(float, twist[3:])
    return message

"""The arm that the parameters describe, out of its URDF. Knows no ROS."""

from __future__ import annotations

from heisd_ros.errors import JointStateError, UrdfError
from heisd_ros.files.bounded import expanded, read_text
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.joint_states import JointStateReader
from heisd_ros.kinematics.robots import panda_urdf
from heisd_ros.nodes.parameters import VlaNodeParameters
from heisd_ros.safety.joints import JointGuard, parse_limits


def make_reader(parameters: VlaNodeParameters, urdf: str) -> JointStateReader:
    """The arm of a URDF text, as the parameters describe it.

    Raises:
        UrdfError, JointStateError: The text is no URDF, or a frame or joint is not in it; the
            message is one line that names the parameters.
    """
    tip, base = parameters.robot_tip_frame, parameters.robot_base_frame
    try:
        kinematics = ArmKinematics(urdf, tip, parameters.robot_joint_names, base)
    except UrdfError as error:
        frames = f"'robot.tip_frame' {tip!r} and 'robot.base_frame' {base!r}"
        raise UrdfError(f"{frames}: {' '.join(str(error).split())}") from error
    except JointStateError as error:
        raise JointStateError(f"parameter 'robot.joint_names': {error}") from error
    limits = parse_limits(parameters.joint_limits)
    if parameters.targets_in_root and not kinematics.base_is_root():
        raise UrdfError(
            f"parameter 'robot.base_frame' is {base!r}, which does not lie in the root of the "
            "robot description; accepted: the root link, or one fixed to it without an offset, as "
            "'command.targets_in_root' is true"
        )
    try:
        JointGuard(limits=limits).check(kinematics)
    except JointStateError as error:
        raise JointStateError(f"parameter 'joints.limits': {error}") from error
    return JointStateReader(
        kinematics, parameters.robot_gripper_joints, parameters.gripper_timeout_sec, limits
    )


def urdf_text(parameters: VlaNodeParameters) -> str:
    """The built-in Panda's URDF, or that of the file `robot.urdf`.

    Raises:
        UrdfError: It cannot be read; the message names the parameter.
    """
    if parameters.robot_source == "panda":
        return panda_urdf()
    path = expanded(parameters.robot_urdf)
    return read_text(path, lambda problem: UrdfError(f"parameter 'robot.urdf': {problem}"))

"""The command interfaces, and the parameters of topics in a robot's YAML file. Imports no ROS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from heisd_ros.robot.declare import ROS_NAME, Parameters, parameter, values_of


class InterfaceKind(NamedTuple):
    """What a command interface sends.

    Attributes:
        joints: Whether it commands the joints, and not the tip.
        speeds: Whether it commands velocities, which the arm keeps until the next command.
    """

    joints: bool = False
    speeds: bool = False


INTERFACES = {
    "twist": InterfaceKind(speeds=True),
    "pose": InterfaceKind(),
    "delta": InterfaceKind(),
    "joint_velocity": InterfaceKind(joints=True, speeds=True),
    "joint_position": InterfaceKind(joints=True),
}
"""The values of `command.interface`; `nodes/interfaces.py` has a class for each."""


@dataclass(frozen=True)
class TopicParameters(Parameters):
    """Topics that `real_arm.launch.py` remaps the node to. The node ignores them."""

    image: str = parameter("camera/image_raw", "Scene camera.")
    image_wrist: str = parameter("wrist_camera/image_raw", "Wrist camera.")
    joint_states: str = parameter("joint_states", "Joint states.")
    twist: str = parameter("servo_node/delta_twist_cmds", "Command of command.interface twist.")
    pose: str = parameter("target_pose", "Command of command.interface pose.")
    joint_velocity: str = parameter(
        "forward_velocity_controller/commands", "Command of command.interface joint_velocity."
    )
    joint_position: str = parameter(
        "forward_position_controller/commands", "Command of command.interface joint_position."
    )
    gripper: str = parameter("gripper/command", "Opening of the gripper.")
    gripper_joint: str = parameter(
        "gripper/joint_command", "Gripper of gripper.action joint_state."
    )

    def _problems(self) -> Iterator[tuple[str, str]]:
        for name, topic in values_of(self).items():
            if not ROS_NAME.fullmatch(topic):
                yield name, "the name of a topic, such as camera/image_raw"

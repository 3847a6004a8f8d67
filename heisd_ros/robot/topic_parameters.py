"""What a robot's YAML says of topics, beside the node's parameters. Knows no ROS."""

from __future__ import annotations

from dataclasses import dataclass

from heisd_ros.robot.declare import parameter, parameters_of, validate

PREFIX = "topics."


@dataclass(frozen=True)
class TopicParameters:
    """Where `real_arm.launch.py` wires the node to. The node does not read them.

    Raises:
        ValueError: A value is not accepted; the message names the parameter.
    """

    image: str = parameter("topics.image", "camera/image_raw", "Scene camera.")
    image_wrist: str = parameter("topics.image_wrist", "wrist_camera/image_raw", "Wrist camera.")
    joint_states: str = parameter("topics.joint_states", "joint_states", "Joint states.")
    twist: str = parameter(
        "topics.twist", "servo_node/delta_twist_cmds", "Command of command.interface twist."
    )
    pose: str = parameter("topics.pose", "target_pose", "Command of command.interface pose.")
    gripper: str = parameter("topics.gripper", "gripper/command", "Opening of the gripper.")
    gripper_joint: str = parameter(
        "topics.gripper_joint", "gripper/joint_command", "Gripper of gripper.action joint_state."
    )

    def __post_init__(self) -> None:
        validate(self)
        for field, info in parameters_of(type(self)):
            if not getattr(self, field.name).strip():
                raise ValueError(f"parameter '{info.name}' is ''; accepted: the name of a topic")

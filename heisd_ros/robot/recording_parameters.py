"""What a robot's YAML says of recordings, beside the node's parameters. Knows no ROS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from heisd_ros.data.layout import ActionRule, RecordingLayout, RuleKind
from heisd_ros.robot.declare import parameter, validate
from heisd_ros.robot.parameters import VlaNodeParameters

PREFIX = "recording."


@dataclass(frozen=True)
class RecordingParameters:
    """Topics and rules of recordings. The node does not read them: it leaves them in the file.

    Raises:
        ValueError: A value is not accepted; the message names the parameter.
    """

    images: tuple[str, ...] = parameter(
        "recording.images",
        ("/camera/image_raw", "/wrist_camera/image_raw"),
        "Topics of the cameras (Image or CompressedImage), in the order of the model's views.",
    )
    joint_states: str = parameter(
        "recording.joint_states", "/joint_states", "Topic of the joint states."
    )
    description: str = parameter(
        "recording.robot_description",
        "/robot_description",
        "Topic of the URDF, with robot.source 'topic'.",
    )
    instruction: str = parameter(
        "recording.instruction",
        "",
        "Topic of what the robot was told: a String, StepTelemetry, or the feedback of "
        "~/execute, whose goals are episodes; empty: the parameter instruction, or what "
        "`heisd record` noted.",
    )
    marker: str = parameter(
        "recording.marker",
        "",
        "Topic that marks episodes: a Bool is true while one goes on, any other message begins "
        "one; empty: none.",
    )
    action: str = parameter(
        "recording.action",
        "measured",
        "What an action is: the measured motion of the tip, the motion of the poses on "
        "recording.action_topic, the twists there over a control step, or the actions that a VLA "
        "node published there (StepTelemetry, ActionDelta).",
        choices=get_args(RuleKind),
    )
    action_topic: str = parameter(
        "recording.action_topic", "", "See recording.action; empty with 'measured'."
    )
    gripper: str = parameter(
        "recording.gripper",
        "",
        "Topic of the commanded opening (m, Float64); empty: as the fingers moved.",
    )
    pause_sec: float = parameter(
        "recording.pause_sec",
        2.0,
        "The arm standing still for this long (s) ends an episode, and the pause is left out; "
        "0: never.",
        low=0.0,
        high=3600.0,
    )
    pause_speed: float = parameter(
        "recording.pause_speed",
        0.01,
        "Slower than this (rad/s) every joint counts as standing still.",
        low=0.0,
        high=10.0,
    )
    longest_sec: float = parameter(
        "recording.longest_sec",
        120.0,
        "Longer episodes (s) are cut: one is held in memory.",
        low=1.0,
        high=3600.0,
    )

    def __post_init__(self) -> None:
        validate(self)
        if not self.images or "" in self.images:
            raise ValueError(
                f"parameter 'recording.images' is {list(self.images)!r}; accepted: topics"
            )
        if (self.action == "measured") != (not self.action_topic):
            accepted = "empty" if self.action == "measured" else "a topic"
            raise ValueError(
                f"parameter 'recording.action_topic' is {self.action_topic!r}; accepted: "
                f"{accepted}, as 'recording.action' is {self.action!r}"
            )


def recording_layout(
    node: VlaNodeParameters, recording: RecordingParameters, urdf: str | None
) -> RecordingLayout:
    """The layout of a robot's recordings.

    Args:
        node: Frames, joints, scales, times: as the node uses them.
        recording: Topics and rules.
        urdf: Text of the robot's description; None: it is in the recording.
    """
    unitless = node.units == "unitless"
    rule = ActionRule(
        kind=recording.action,  # type: ignore[arg-type]  # one of the choices, as validated
        topic=recording.action_topic,
        frame=node.frame_id,
        translation_scale=node.translation_scale,
        rotation_scale=node.rotation_scale,
        rotation_convention=node.rotation_convention,
        unit_linear=node.unitless_linear if unitless else 1.0,
        unit_angular=node.unitless_angular if unitless else 1.0,
        gripper_topic=recording.gripper,
        open_action=node.gripper_open_action,
        closed_action=node.gripper_closed_action,
        open_position=node.gripper_open_position,
        closed_position=node.gripper_closed_position,
    )
    return RecordingLayout(
        images=recording.images,
        joint_states=recording.joint_states,
        tip_frame=node.robot_tip_frame,
        base_frame=node.robot_base_frame,
        joint_names=node.robot_joint_names,
        gripper_joints=tuple(name for name in node.robot_gripper_joints if name),
        urdf=urdf,
        description_topic=recording.description,
        action=rule,
        instruction=node.instruction.strip(),
        instruction_topic=recording.instruction,
        marker_topic=recording.marker,
        rate_hz=node.control_rate_hz,
        tolerance_sec=node.sync_tolerance_sec,
        pause_sec=recording.pause_sec,
        pause_speed=recording.pause_speed,
        longest_sec=recording.longest_sec,
    )

"""Parameters of recordings in a robot's YAML file. Imports no ROS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from heisd_ros.data.recording_layout import RuleKind
from heisd_ros.robot.declare import Parameters, parameter


@dataclass(frozen=True)
class RecordingParameters(Parameters):
    """Topics and rules of recordings. The node ignores them."""

    images: tuple[str, ...] = parameter(
        ("/camera/image_raw", "/wrist_camera/image_raw"),
        "Topics of the cameras (Image or CompressedImage), in the order of the model's views.",
    )
    joint_states: str = parameter("/joint_states", "Topic of the joint states.")
    robot_description: str = parameter(
        "/robot_description", "Topic of the URDF, with robot.source 'topic'."
    )
    instruction: str = parameter(
        "",
        "Topic of what the robot was told: a String, StepTelemetry, or the feedback of "
        "~/execute, whose goals are episodes; empty: the parameter instruction, or what "
        "`heisd record` noted.",
    )
    marker: str = parameter(
        "",
        "Topic that marks episodes: a Bool is true while one goes on, any other message begins "
        "one; empty: none.",
    )
    action: str = parameter(
        "measured",
        "What an action is: the measured motion of the tip, the motion of the poses on "
        "recording.action_topic, the twists there over a control step, or the actions that a VLA "
        "node published there (StepTelemetry, ActionDelta).",
        choices=get_args(RuleKind),
    )
    action_topic: str = parameter("", "See recording.action; empty with 'measured'.")
    gripper: str = parameter(
        "", "Topic of the commanded opening (m, Float64); empty: as the fingers moved."
    )
    telemetry: str = parameter(
        "/vla_node/telemetry",
        "Topic of the node's telemetry (StepTelemetry), which says when a person had the arm; "
        "empty: not read. A recording may lack it.",
    )
    outcome: str = parameter(
        "/vla_node/outcome",
        "Topic of how episodes ended (String: success, failure, discard), which ends them; empty: "
        "not read. A recording may lack it.",
    )
    pause_sec: float = parameter(
        2.0,
        "The arm standing still for this long (s) ends an episode, and the pause is left out; "
        "0: never.",
        low=0.0,
        high=3600.0,
    )
    pause_speed: float = parameter(
        0.01, "Slower than this (rad/s) every joint counts as standing still.", low=0.0, high=10.0
    )
    longest_sec: float = parameter(
        120.0, "Longer episodes (s) are cut: one is held in memory.", low=1.0, high=3600.0
    )

    def _problems(self) -> Iterator[tuple[str, str]]:
        if not self.images or "" in self.images:
            yield "images", "topics"
        if (self.action == "measured") != (not self.action_topic):
            accepted = "empty" if self.action == "measured" else "a topic"
            yield "action_topic", f"{accepted}, as 'recording.action' is {self.action!r}"

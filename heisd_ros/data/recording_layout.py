"""The layout of one robot's recordings: topics, frames, times, and the meaning of an action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from heisd_ros.kinematics.joint_states import FingerTravel

RuleKind = Literal["measured", "pose", "twist", "action"]


@dataclass(frozen=True)
class ActionRule:
    """How recorded motion becomes actions in the model's units; the inverse of the node's commands.

    Attributes:
        kind: `measured`: how the tip moved by the joint states; `pose`: how the poses on `topic`
            moved; `twist`: the twists on `topic` over a control step; `action`: actions as a VLA
            node published them on `topic`.
        topic: Topic of the poses, twists or actions; empty with `measured`.
        frame: Frame of the actions: the robot's base or tip.
        translation_scale: Metres in a control step for 1.
        rotation_scale: Radians in a control step for 1.
        rotation_convention: `rotation_vector` or `roll_pitch_yaw`.
        unit_linear: Metres a second for a recorded linear 1.
        unit_angular: Radians a second for a recorded angular 1.
        gripper_topic: Commanded openings, m (std_msgs/Float64); empty: the measured opening.
        open_action: The action's gripper number for open.
        closed_action: Likewise for closed.
        open_position: Opening (m) when open.
        closed_position: Opening (m) when closed.
    """

    kind: RuleKind = "measured"
    topic: str = ""
    frame: str = ""
    translation_scale: float = 0.05
    rotation_scale: float = 0.5
    rotation_convention: str = "rotation_vector"
    unit_linear: float = 1.0
    unit_angular: float = 1.0
    gripper_topic: str = ""
    open_action: float = -1.0
    closed_action: float = 1.0
    open_position: float = 0.08
    closed_position: float = 0.0


@dataclass(frozen=True)
class RecordingLayout:
    """Topics of a recording, and the rules for making steps and episodes.

    Attributes:
        images: Topics of the cameras, in the order of the model's views.
        joint_states: Topic of the joint states.
        tip_frame: The link that the actions move.
        base_frame: The link in which its pose is given.
        joint_names: The joints between them.
        gripper_joints: Finger joints; none: the opening counts as 0.
        finger_travel: Maps their angle to the opening; None: they are distances, m.
        urdf: The robot's description; None: on `description_topic`.
        description_topic: Topic of the robot's description.
        action: What an action is.
        instruction: The task in words, used if no topic holds it.
        instruction_topic: Topic of the instruction; empty: none.
        marker_topic: Topic that marks episodes; empty: none.
        telemetry_topic: Topic of the node's telemetry, by which a person's steps are known; empty:
            none. It may be missing.
        outcome_topic: Topic of how episodes ended; empty: none. It may be missing.
        rate_hz: Control steps a second; 0: the model's.
        tolerance_sec: Largest difference of the stamps within a step.
        pause_sec: The arm standing still for this long ends an episode; 0: it does not.
        pause_speed: The arm stands still while every joint is slower than this, rad/s.
        longest_sec: Longer episodes are split, since an episode is held in memory.
    """

    images: tuple[str, ...]
    joint_states: str
    tip_frame: str
    base_frame: str
    joint_names: tuple[str, ...]
    gripper_joints: tuple[str, ...] = ()
    finger_travel: FingerTravel | None = None
    urdf: str | None = None
    description_topic: str = "/robot_description"
    action: ActionRule = ActionRule()
    instruction: str = ""
    instruction_topic: str = ""
    marker_topic: str = ""
    telemetry_topic: str = ""
    outcome_topic: str = ""
    rate_hz: float = 0.0
    tolerance_sec: float = 0.03
    pause_sec: float = 2.0
    pause_speed: float = 0.01
    longest_sec: float = 120.0

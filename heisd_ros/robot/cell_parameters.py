"""All of a robot's YAML file: the node's parameters, the guard's, and those of other tools."""

from __future__ import annotations

from dataclasses import dataclass

from heisd_ros.data.recording_layout import ActionRule, RecordingLayout
from heisd_ros.robot.declare import from_values, group, parameters_of, values_of
from heisd_ros.robot.guard_parameters import GuardNodeParameters, GuardParameters
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.recording_parameters import RecordingParameters
from heisd_ros.robot.topic_parameters import TopicParameters


@dataclass(frozen=True)
class CellParameters(VlaNodeParameters):
    """The node's settings, and those in the file for other tools.

    Raises:
        ValueError: A value is not accepted; the message names the parameter.
    """

    guard: GuardParameters = group(GuardParameters)
    topics: TopicParameters = group(TopicParameters)
    recording: RecordingParameters = group(RecordingParameters)


OF_OTHERS = ("guard.", "topics.", "recording.")
"""Prefixes of the parameters that the node ignores."""

GUARDED = ("twist", "pose", "gripper")
"""Commands that `heisd_guard` takes and passes on, as `TopicParameters` names them."""


def guard_settings(cell: CellParameters) -> GuardNodeParameters:
    """Returns the settings of `heisd_guard` with a robot's file.

    Raises:
        ValueError: The guard would refuse the file at start, or would hear its own commands; the
            message names the parameter.
    """
    for kind in GUARDED:
        topic = getattr(cell.topics, kind)
        if f"/{topic}".endswith(f"/heisd_guard/input/{kind}"):
            raise ValueError(
                f"parameter 'topics.{kind}' is {topic!r}; accepted: the controller's own topic, as "
                "heisd_guard publishes on it what it heard on the other"
            )
    values, names = values_of(cell), {info.name for info in parameters_of(GuardNodeParameters)}
    return from_values(
        GuardNodeParameters, {name: values[name] for name in values if name in names}
    )


def recording_layout(cell: CellParameters, urdf: str | None) -> RecordingLayout:
    """Returns the layout of a robot's recordings.

    Args:
        cell: Frames, joints, scales and times as in the node; topics and rules of recordings.
        urdf: Text of the robot's description; None: it is in the recording.
    """
    command, gripper, robot, recording = cell.command, cell.gripper, cell.robot, cell.recording
    unitless = command.units == "unitless"
    rule = ActionRule(
        kind=recording.action,  # type: ignore[arg-type]  # one of the choices, as validated
        topic=recording.action_topic,
        frame=cell.command_frame,
        translation_scale=command.translation_scale,
        rotation_scale=command.rotation_scale,
        rotation_convention=command.rotation_convention,
        unit_linear=command.unitless_linear if unitless else 1.0,
        unit_angular=command.unitless_angular if unitless else 1.0,
        gripper_topic=recording.gripper,
        open_action=gripper.open_action,
        closed_action=gripper.closed_action,
        open_position=gripper.open_position,
        closed_position=gripper.closed_position,
    )
    return RecordingLayout(
        images=recording.images,
        joint_states=recording.joint_states,
        tip_frame=robot.tip_frame,
        base_frame=robot.base_frame,
        joint_names=robot.joint_names,
        gripper_joints=tuple(name for name in robot.gripper_joints if name),
        finger_travel=cell.gripper.finger_travel(),
        urdf=urdf,
        description_topic=recording.robot_description,
        action=rule,
        instruction=cell.instruction.strip(),
        instruction_topic=recording.instruction,
        marker_topic=recording.marker,
        telemetry_topic=recording.telemetry,
        outcome_topic=recording.outcome,
        rate_hz=cell.model.control_rate_hz,
        tolerance_sec=cell.sync.tolerance_sec,
        pause_sec=recording.pause_sec,
        pause_speed=recording.pause_speed,
        longest_sec=recording.longest_sec,
    )

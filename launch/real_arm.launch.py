"""The VLA node for a real arm. Dry run by default: docs/real_arm.md goes from here to motion."""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue
from lifecycle_msgs.msg import Transition

from launch import LaunchDescription

CONFIG = Path(__file__).parent.parent / "config"
ROBOTS = ["franka", "ur5e", "piper", "xarm7", "generic"]
ARGUMENTS = {
    "robot": ("generic", "Whose file of config/robots is taken."),
    "params_file": (
        [f"{CONFIG}/robots/", LaunchConfiguration("robot"), ".yaml"],
        "Parameter file in its place, keyed /**.",
    ),
    "namespace": ("", "Namespace of the node and of every relative topic."),
    "dry_run": ("true", "Whether no command topic is made and telemetry says what would be sent."),
    "configure": ("true", "Whether the node is configured at start."),
    "activate": ("false", "Whether it is activated once configured."),
    "use_sim_time": ("false", "Whether time comes from /clock, as with a bag."),
    "model": ("", "Folder of the checkpoint; empty: the shipped model."),
    "mode": ("ar", "Decoding mode: a name in config/modes, or the path of a YAML file."),
    "instruction": ("", "What the arm is told to do; ~/input/instruction may say otherwise."),
    "image": ("camera/image_raw", "Topic of the scene camera."),
    "image_wrist": ("wrist_camera/image_raw", "Topic of the wrist camera."),
    "joint_states": ("joint_states", "Topic of the joint states."),
    "twist": ("servo_node/delta_twist_cmds", "Topic for command.interface twist."),
    "pose": ("target_pose", "Topic for command.interface pose (FZI: target_frame)."),
    "gripper": ("gripper/command", "Topic of the gripper's opening command."),
}
REMAPPED = {
    "~/input/image": "image",
    "~/input/image_wrist": "image_wrist",
    "~/input/joint_states": "joint_states",
    "~/output/twist": "twist",
    "~/output/pose": "pose",
    "~/output/gripper": "gripper",
}


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(
            name,
            default_value=default,
            description=description,
            choices=ROBOTS if name == "robot" else None,
        )
        for name, (default, description) in ARGUMENTS.items()
    ]
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}

    def typed(name: str, kind: type) -> ParameterValue:
        return ParameterValue(given[name], value_type=kind)

    node = LifecycleNode(
        package="heisd_ros",
        executable="vla_node",
        name="vla_node",
        namespace=given["namespace"],
        output="screen",
        parameters=[
            ParameterFile(given["params_file"]),
            {
                "dry_run": typed("dry_run", bool),
                "use_sim_time": typed("use_sim_time", bool),
                "model.path": typed("model", str),
                "decoding.mode": typed("mode", str),
                "instruction": typed("instruction", str),
            },
        ],
        remappings=[(topic, given[name]) for topic, name in REMAPPED.items()],
    )

    def change(transition: int) -> EmitEvent:
        matcher = matches_action(node)
        return EmitEvent(
            event=ChangeState(lifecycle_node_matcher=matcher, transition_id=transition)
        )

    configure = RegisterEventHandler(
        OnProcessStart(target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)]),
        condition=IfCondition(given["configure"]),
    )
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[change(Transition.TRANSITION_ACTIVATE)],
        ),
        condition=IfCondition(given["activate"]),
    )
    # The handlers first, or the node's start would go unheard.
    return LaunchDescription([*declared, configure, activate, node])

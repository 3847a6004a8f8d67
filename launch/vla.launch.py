"""The VLA node alone, with the built-in Panda's parameters: wire its topics with the arguments.

A dry run by default. For a real arm of any kind: real_arm.launch.py.
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

CONFIG = Path(__file__).parent.parent / "config"
ARGUMENTS = {
    "namespace": ("", "Namespace of the node."),
    "params_file": (
        f"{CONFIG}/vla_node.yaml",
        "Parameter file, keyed /**.",
    ),
    "model": ("", "Folder of the checkpoint; empty: the shipped model."),
    "mode": ("ar", "Decoding mode: a name in config/modes, or the path of a YAML file."),
    "instruction": ("", "What the arm is told to do; ~/input/instruction may say otherwise."),
    "dry_run": ("true", "Whether no command topic is made and telemetry says what would be sent."),
    "autostart": ("true", "Whether the node configures and activates itself at start."),
    "image": ("~/input/image", "Topic of the scene camera."),
    "image_wrist": ("~/input/image_wrist", "Topic of the wrist camera."),
    "joint_states": ("joint_states", "Topic of the joint states."),
    "twist": ("~/output/twist", "Topic of the arm's twist command."),
    "gripper": ("~/output/gripper", "Topic of the gripper's opening command."),
}


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    node = LifecycleNode(
        package="heisd_ros",
        executable="vla_node",
        name="vla_node",
        namespace=given["namespace"],
        output="screen",
        parameters=[
            given["params_file"],
            {
                "model.path": ParameterValue(given["model"], value_type=str),
                "decoding.mode": ParameterValue(given["mode"], value_type=str),
                "instruction": ParameterValue(given["instruction"], value_type=str),
                "dry_run": ParameterValue(given["dry_run"], value_type=bool),
                "autostart": ParameterValue(given["autostart"], value_type=bool),
            },
        ],
        remappings=[
            ("~/input/image", given["image"]),
            ("~/input/image_wrist", given["image_wrist"]),
            ("~/input/image/compressed", [given["image"], "/compressed"]),
            ("~/input/image_wrist/compressed", [given["image_wrist"], "/compressed"]),
            ("~/input/joint_states", given["joint_states"]),
            ("~/output/twist", given["twist"]),
            ("~/output/gripper", given["gripper"]),
        ],
    )
    return LaunchDescription([*declared, node])

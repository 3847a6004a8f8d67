"""The VLA node alone, with the built-in Panda's parameters: wire its topics with the arguments.

A dry run by default. For a real arm of any kind: real_arm.launch.py.
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from launch import Action, LaunchContext, LaunchDescription

CONFIG = Path(__file__).parent.parent / "config"
ARGUMENTS = {
    "namespace": ("", "Namespace of the node."),
    "params_file": (f"{CONFIG}/vla_node.yaml", "Parameter file, keyed /**."),
    "image": ("~/input/image", "Topic of the scene camera."),
    "image_wrist": ("~/input/image_wrist", "Topic of the wrist camera."),
    "joint_states": ("joint_states", "Topic of the joint states."),
    "twist": ("~/output/twist", "Topic of the arm's twist command."),
    "gripper": ("~/output/gripper", "Topic of the gripper's opening command."),
}
# Argument, parameter of the node, its type, and what it means. One that is not given leaves the
# parameter as the file says.
PARAMETERS = {
    "model": ("model.path", str, "Folder of the checkpoint."),
    "mode": ("decoding.mode", str, "Decoding mode: a name in config/modes, or a YAML file."),
    "instruction": ("instruction", str, "What to do; ~/input/instruction may say otherwise."),
    "dry_run": ("dry_run", bool, "Whether no command topic is made; where nothing says, true."),
    "autostart": ("autostart", bool, "Whether it configures and activates itself; likewise."),
}


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    declared += [
        DeclareLaunchArgument(
            name, default_value="", description=f"{words} Empty: as the parameter file says."
        )
        for name, (_, _, words) in PARAMETERS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Action]:
    """The node, once the arguments are known."""
    given = {name: LaunchConfiguration(name) for name in (*ARGUMENTS, *PARAMETERS)}
    node = LifecycleNode(
        package="heisd_ros",
        executable="vla_node",
        name="vla_node",
        namespace=given["namespace"],
        output="screen",
        ros_arguments=["-p", "dry_run:=true", "-p", "autostart:=true"],  # the file comes after them
        parameters=[
            given["params_file"],
            {
                parameter: ParameterValue(given[name], value_type=kind)
                for name, (parameter, kind, _) in PARAMETERS.items()
                if given[name].perform(context)
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
    return [node]

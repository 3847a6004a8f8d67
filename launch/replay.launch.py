"""A recorded bag through the VLA node, in a dry run and on the bag's clock."""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

ONE_ARM = str(Path(__file__).parent / "real_arm.launch.py")
ARGUMENTS = {
    "bag": (".", "Folder of the bag."),
    "rate": ("1.0", "Speed of the clock."),
    "robot": ("generic", "Whose file of config/robots is taken."),
    "namespace": ("", "Namespace of the node."),
    "model": ("", "Folder of the checkpoint; empty: the shipped model."),
    "mode": ("ar", "Decoding mode."),
    "instruction": ("", "What the arm is told to do."),
    "image": ("camera/image_raw", "Topic of the scene camera in the bag."),
    "image_wrist": ("wrist_camera/image_raw", "Topic of the wrist camera in the bag."),
    "joint_states": ("joint_states", "Topic of the joint states in the bag."),
}


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    play = ExecuteProcess(
        cmd=["ros2", "bag", "play", given["bag"], "--clock", "--rate", given["rate"]],
        output="screen",
    )
    passed = {name: value for name, value in given.items() if name not in ("bag", "rate")}
    passed |= {"dry_run": "true", "use_sim_time": "true", "activate": "true"}
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(ONE_ARM), launch_arguments=list(passed.items())
    )
    return LaunchDescription([*declared, node, play])

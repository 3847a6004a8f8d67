"""Two arms, each with a VLA node of its own, in the namespaces left and right. Dry run first."""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

ONE_ARM = str(Path(__file__).parent / "real_arm.launch.py")
BOTH = {
    "robot": ("generic", "Whose file of config/robots is taken for both arms."),
    "dry_run": ("true", "Whether no command topic is made."),
    "configure": ("true", "Whether the nodes are configured at start."),
    "activate": ("false", "Whether they are activated once configured."),
    "model": ("", "Folder of the checkpoint; empty: the shipped model."),
    "mode": ("ar", "Decoding mode."),
}
SIDES = ("left", "right")


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in BOTH.items()
    ]
    arms = []
    for side in SIDES:
        own = {
            "instruction": f"What it is told to do; {side}/vla_node/input/instruction too.",
            "params_file": "Its parameter file; empty: that of robot.",
        }
        declared += [
            DeclareLaunchArgument(
                f"{side}_{name}", default_value="", description=f"Of the {side} arm. {words}"
            )
            for name, words in own.items()
        ]
        given = {key: LaunchConfiguration(key) for key in BOTH}
        given |= {name: LaunchConfiguration(f"{side}_{name}") for name in own}
        given |= {"namespace": side}
        arms.append(
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(ONE_ARM), launch_arguments=list(given.items())
            )
        )
    return LaunchDescription([*declared, *arms])

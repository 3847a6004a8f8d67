"""Two arms, each with a VLA node of its own, in the namespaces left and right. Dry run first.

Every argument of real_arm.launch.py is there three times: `mode` is for both arms, and `left_mode`
and `right_mode` are for one of them.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

ONE_ARM = str(Path(__file__).parent / "real_arm.launch.py")
SIDES = ("left", "right")


def generate_launch_description() -> LaunchDescription:
    one_arm = runpy.run_path(ONE_ARM)["generate_launch_description"]().get_launch_arguments()
    # Both arms in one namespace would be one arm with two nodes.
    both = [argument for argument in one_arm if argument.name != "namespace"]
    arms = []
    for side in SIDES:
        own = [
            DeclareLaunchArgument(
                f"{side}_{argument.name}",
                default_value=LaunchConfiguration(argument.name),
                description=f"Of the {side} arm: {argument.description}",
                choices=argument.choices,
            )
            for argument in both
        ]
        words = f"Namespace of the {side} arm."
        own.append(
            DeclareLaunchArgument(f"{side}_namespace", default_value=side, description=words)
        )
        given = {
            argument.name: LaunchConfiguration(f"{side}_{argument.name}") for argument in one_arm
        }
        arm = IncludeLaunchDescription(PythonLaunchDescriptionSource(ONE_ARM))
        arms += [*own, GroupAction([arm], forwarding=False, launch_configurations=given)]
    return LaunchDescription([*both, *arms])

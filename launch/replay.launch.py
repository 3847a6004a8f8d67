"""A recorded bag through the VLA node, in a dry run and on the bag's clock.

Played by `ros2 bag play` where that is installed, else by `heisd play`. docs/replay.md has the
replay that needs no node and gives the same result each time.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    Shutdown,
)
from launch.conditions import IfCondition, UnlessCondition
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

from launch import Action, LaunchContext, LaunchDescription

ONE_ARM = str(Path(__file__).parent / "real_arm.launch.py")
ARGUMENTS = {
    "bag": (None, "Folder of the bag."),
    "rate": ("1.0", "Speed of the clock."),
    "delay": ("10.0", "Seconds before the first message, in which the node loads its model."),
    "loop": ("false", "Whether it begins again at its end."),
    "robot": ("generic", "Whose file of config/robots is taken."),
    "params_file": ("", "Parameter file in its place, keyed /**."),
    "namespace": ("", "Namespace of the node."),
    "model": ("", "Folder of the checkpoint; empty: as the parameter file says."),
    "mode": ("", "Decoding mode; empty: likewise."),
    "instruction": ("", "What the arm is told to do; empty: likewise."),
    "image": ("", "Topic of the scene camera in the bag; empty: likewise."),
    "image_wrist": ("", "Topic of the wrist camera in the bag; empty: likewise."),
    "joint_states": ("", "Topic of the joint states in the bag; empty: likewise."),
}
OF_THE_PLAYER = ("bag", "rate", "delay", "loop")


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    player = [ExecutableInPackage(package="heisd_ros", executable="heisd"), "play", given["bag"]]
    if shutil.which("ros2") and importlib.util.find_spec("ros2bag"):
        player = ["ros2", "bag", "play", given["bag"], "--clock", "40"]
    player += ["--rate", given["rate"], "--delay", given["delay"]]
    play = [
        ExecuteProcess(
            cmd=player + more,
            output="screen",
            condition=condition(given["loop"]),
            on_exit=end,
        )
        for condition, more in ((IfCondition, ["--loop"]), (UnlessCondition, []))
    ]
    passed = {name: value for name, value in given.items() if name not in OF_THE_PLAYER}
    passed |= {"dry_run": "true", "use_sim_time": "true", "activate": "true"}
    one_arm = IncludeLaunchDescription(PythonLaunchDescriptionSource(ONE_ARM))
    # A group of its own: nothing but these arguments reaches the node.
    node = GroupAction([one_arm], forwarding=False, launch_configurations=passed)
    return LaunchDescription([*declared, node, *play])


def end(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """Ends the launch, once: launch_ros does not survive a second shutdown."""
    return [] if context.is_shutdown else [Shutdown(reason="the bag ended")]

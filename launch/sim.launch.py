"""A LIBERO scene as a simulated arm, and the VLA node that drives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import Action, LaunchContext, LaunchDescription

CONFIG = Path(__file__).parent.parent / "config"
ARGUMENTS = {
    "namespace": ("", "Namespace of both nodes."),
    "vla_params_file": (f"{CONFIG}/vla_node.yaml", "Parameter file of the VLA node, keyed /**."),
    "sim_params_file": (f"{CONFIG}/sim.yaml", "Parameter file of the arm, keyed /**."),
}
# Argument, parameter of a node, its type, and what it means. One that is not given leaves the
# parameter as the node's file says.
OF_THE_ARM = {
    "suite": ("suite", str, "LIBERO suite."),
    "task_index": ("task_index", int, "Task of the suite, from 0."),
    "init_state": ("init_state", int, "Initial state; 40 to 49 are held out from training."),
    "lockstep": ("lockstep", bool, "One step for each command instead of 20 steps a second."),
}
OF_THE_POLICY = {
    "model": ("model.path", str, "Folder of the checkpoint."),
    "mode": ("decoding.mode", str, "Decoding mode: a name in config/modes, or a YAML file."),
}
WIRING = {
    "~/input/image": "sim_arm_node/image",
    "~/input/image_wrist": "sim_arm_node/image_wrist",
    "~/input/joint_states": "sim_arm_node/joint_states",
    "~/input/instruction": "sim_arm_node/instruction",
    "~/output/twist": "sim_arm_node/command/twist",
    "~/output/gripper": "sim_arm_node/command/gripper",
}
# A scene that renders more slowly than real time moves less than it is told to by the clock; a node
# that checks this holds the arm until it is activated again.
SLOW_MOTION = {"input.frozen_joint_sec": 0.0, "input.follow_distance_m": 0.0}


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    declared += [
        DeclareLaunchArgument(
            name, default_value="", description=f"{words} Empty: as the parameter file says."
        )
        for name, (_, _, words) in (OF_THE_ARM | OF_THE_POLICY).items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Action]:
    """Both nodes, once the arguments are known."""
    given = {name: LaunchConfiguration(name) for name in (*ARGUMENTS, *OF_THE_ARM, *OF_THE_POLICY)}

    def parameters(kinds: dict[str, tuple[str, type, str]]) -> dict[str, ParameterValue]:
        return {
            parameter: ParameterValue(given[name], value_type=kind)
            for name, (parameter, kind, _) in kinds.items()
            if given[name].perform(context)
        }

    # In lock-step a command says which observation it answers.
    file = given["sim_params_file"].perform(context)
    lockstep = given["lockstep"].perform(context).lower() or _lockstep(file)
    stamp = "observation" if lockstep in ("true", True) else "now"
    follow = {} if stamp == "observation" else SLOW_MOTION
    arm = Node(
        package="heisd_ros",
        executable="sim_arm_node",
        name="sim_arm_node",
        namespace=given["namespace"],
        output="screen",
        parameters=[given["sim_params_file"], parameters(OF_THE_ARM)],
        on_exit=end,
    )
    vla = LifecycleNode(
        package="heisd_ros",
        executable="vla_node",
        name="vla_node",
        namespace=given["namespace"],
        output="screen",
        parameters=[
            given["vla_params_file"],
            parameters(OF_THE_POLICY),
            {"command.stamp": stamp, "autostart": True, **follow},
        ],
        remappings=list(WIRING.items()),
    )
    return [arm, vla]


def _lockstep(file: str) -> bool:
    """Whether a parameter file of the arm asks for lock-step."""
    try:
        body: Any = yaml.safe_load(Path(file).read_text(encoding="utf-8"))["/**"]["ros__parameters"]
        return bool(body.get("lockstep"))
    except (OSError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        return False  # the arm will say what is wrong with the file


def end(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """Ends the launch, once: launch_ros does not survive a second shutdown."""
    return [] if context.is_shutdown else [Shutdown(reason="the arm ended")]

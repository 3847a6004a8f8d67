"""A LIBERO scene as a simulated arm, and the VLA node that drives it."""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition, UnlessCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

CONFIG = Path(__file__).parent.parent / "config"
ARGUMENTS = {
    "namespace": ("", "Namespace of both nodes."),
    "suite": ("libero_spatial", "LIBERO suite."),
    "task_index": ("0", "Task of the suite, from 0."),
    "init_state": ("40", "Initial state; 40 to 49 are held out from training."),
    "lockstep": ("false", "One step for each command instead of 20 steps a second."),
    "model": ("", "Folder of the checkpoint; empty: the shipped model."),
    "mode": ("ar", "Decoding mode: a name in config/modes, or the path of a YAML file."),
    "vla_params_file": (f"{CONFIG}/vla_node.yaml", "Parameter file of the VLA node, keyed /**."),
    "sim_params_file": (f"{CONFIG}/sim.yaml", "Parameter file of the arm, keyed /**."),
}
WIRING = {
    "~/input/image": "sim_arm_node/image",
    "~/input/image_wrist": "sim_arm_node/image_wrist",
    "~/input/joint_states": "sim_arm_node/joint_states",
    "~/input/instruction": "sim_arm_node/instruction",
    "~/output/twist": "sim_arm_node/command/twist",
    "~/output/gripper": "sim_arm_node/command/gripper",
}


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    arm = Node(
        package="heisd_ros",
        executable="sim_arm_node",
        name="sim_arm_node",
        namespace=given["namespace"],
        output="screen",
        parameters=[
            given["sim_params_file"],
            {
                "suite": ParameterValue(given["suite"], value_type=str),
                "task_index": ParameterValue(given["task_index"], value_type=int),
                "init_state": ParameterValue(given["init_state"], value_type=int),
                "lockstep": ParameterValue(given["lockstep"], value_type=bool),
            },
        ],
    )
    # In lock-step a command says which observation it answers.
    vla = [
        LifecycleNode(
            package="heisd_ros",
            executable="vla_node",
            name="vla_node",
            namespace=given["namespace"],
            output="screen",
            parameters=[
                given["vla_params_file"],
                {
                    "model.path": ParameterValue(given["model"], value_type=str),
                    "decoding.mode": ParameterValue(given["mode"], value_type=str),
                    "command.stamp": stamp,
                    "autostart": True,
                },
            ],
            remappings=list(WIRING.items()),
            condition=condition(given["lockstep"]),
        )
        for condition, stamp in ((IfCondition, "observation"), (UnlessCondition, "now"))
    ]
    return LaunchDescription([*declared, arm, *vla])

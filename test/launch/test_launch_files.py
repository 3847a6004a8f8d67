"""The launch files, wherever launch_ros can be imported (it is not on PyPI)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from lifecycle_msgs.srv import GetState
from rclpy.node import Node
from std_msgs.msg import String
from support.bags import text
from support.recorder import numbers
from support.replay_bags import IMAGE, IMAGE_WRIST, JOINTS, cell
from support.ros import Bench, World
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint
from support.tree import ROOT

from heisd_ros.kinematics.robots import panda_urdf

pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS installation only")

RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
source = PythonLaunchDescriptionSource(sys.argv[1])
given = [tuple(argument.split(":=", 1)) for argument in sys.argv[2:]]
service = LaunchService(argv=[])
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=given)])
)
sys.exit(service.run())
"""


@pytest.mark.parametrize("name", ["sim", "vla", "real_arm", "dual_arm", "replay"])
def test_every_argument_is_declared_with_a_default_and_described(name):
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(ROOT / "launch" / f"{name}.launch.py"))
    from launch import LaunchContext

    description = source.get_launch_description(LaunchContext())
    arguments = description.get_launch_arguments()
    assert {"mode", "model"} <= {argument.name for argument in arguments}
    for argument in arguments:
        assert argument.description and argument.default_value is not None


@contextmanager
def launched(name, *arguments):
    """A world in which a launch file runs, and its process, which must end well on SIGINT."""
    world = World()
    environment = {**os.environ, "ROS_DOMAIN_ID": str(world.domain_id)}
    environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    file = str(ROOT / "launch" / f"{name}.launch.py")
    process = subprocess.Popen([sys.executable, "-c", RUN, file, *arguments], env=environment)
    try:
        yield world, process
    finally:
        process.kill()
        world.close()


def end(world, process, doing=None):
    process.send_signal(signal.SIGINT)
    world.spin_until(lambda: process.poll() is not None, "the end", doing)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model"))


def test_the_vla_launch_file_starts_a_node_that_acts(model):
    arguments = [
        f"model:={model}",
        f"instruction:={INSTRUCTIONS[0]}",
        "joint_states:=/vla_node/input/joint_states",
        "dry_run:=false",
    ]
    with launched("vla", *arguments) as (world, process):
        bench = world.add(Bench)
        world.spin_until(bench.steps, "a step", bench.publish)
        assert bench.steps()[-1].instruction == INSTRUCTIONS[0]
        end(world, process, bench.publish)
        assert numbers(bench.twists[-1]) == [0.0] * 6


INPUTS = [f"{name}:=vla_node/input/{name}" for name in ("image", "image_wrist", "joint_states")]


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_real_arm_launch_file_is_dry_unless_told_otherwise(model, dry_run):
    arguments = ["robot:=franka", f"model:={model}", f"instruction:={INSTRUCTIONS[0]}", *INPUTS]
    arguments += ["activate:=true", "twist:=vla_node/output/twist", "pose:=vla_node/output/pose"]
    arguments += [] if dry_run else ["dry_run:=false"]
    with launched("real_arm", *arguments) as (world, process):
        bench = world.add(Bench)
        bench.description.publish(String(data=panda_urdf()))
        world.spin_until(bench.steps, "a step", bench.publish)
        assert bench.steps()[-1].dry_run == dry_run
        topics = dict(bench.get_publisher_names_and_types_by_node("vla_node", "/"))
        assert any("/output/" in topic for topic in topics) != dry_run
        end(world, process, bench.publish)


def test_the_dual_arm_launch_file_configures_two_nodes_and_moves_neither(model):
    right = f"right_params_file:={ROOT / 'config' / 'robots' / 'piper.yaml'}"
    with launched("dual_arm", "robot:=franka", right, f"model:={model}") as (world, process):
        looks = world.add(Node, "looks")

        def states():
            return [
                world.call(GetState, f"/{side}/vla_node/get_state").current_state.label
                for side in ("left", "right")
            ]

        world.spin_until(lambda: states() == ["inactive"] * 2, "both nodes")
        heard = {name for name, _ in looks.get_topic_names_and_types()}
        assert {"/left/joint_states", "/right/joint_states_single"} <= heard
        end(world, process)


def test_the_replay_launch_file_plays_a_bag_through_a_node_that_commands_nothing(model, tmp_path):
    recording = cell(40)
    recording.add(0, "/robot_description", text(panda_urdf()))
    bag = recording.write(tmp_path / "bag")
    arguments = [f"bag:={bag}", "loop:=true", "delay:=0", f"model:={model}", "robot:=franka"]
    topics = {"image": IMAGE, "image_wrist": IMAGE_WRIST, "joint_states": JOINTS}
    arguments += [f"{name}:={topic}" for name, topic in topics.items()]
    with launched("replay", *arguments) as (world, process):
        bench = world.add(Bench)
        world.spin_until(bench.steps, "a step")
        assert bench.steps()[-1].dry_run and not bench.twists
        end(world, process)

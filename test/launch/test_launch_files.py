"""The launch files, wherever launch_ros can be imported (it is not on PyPI)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from support.ros import Bench, World, numbers
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint
from support.tree import ROOT

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


@pytest.mark.parametrize("name", ["sim", "vla"])
def test_every_argument_is_declared_with_a_default_and_described(name):
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(ROOT / "launch" / f"{name}.launch.py"))
    from launch import LaunchContext

    description = source.get_launch_description(LaunchContext())
    arguments = description.get_launch_arguments()
    assert {"namespace", "model"} <= {argument.name for argument in arguments}
    for argument in arguments:
        assert argument.description and argument.default_value is not None


def test_the_vla_launch_file_starts_a_node_that_acts(tmp_path):
    model = save_tiny_checkpoint(tmp_path / "model")
    world = World()
    environment = {**os.environ, "ROS_DOMAIN_ID": str(world.domain_id)}
    environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    arguments = [
        f"model:={model}",
        f"instruction:={INSTRUCTIONS[0]}",
        "joint_states:=/vla_node/input/joint_states",
    ]
    file = str(ROOT / "launch" / "vla.launch.py")
    process = subprocess.Popen([sys.executable, "-c", RUN, file, *arguments], env=environment)
    try:
        bench = world.add(Bench)
        world.spin_until(bench.steps, "a step", bench.publish)
        assert bench.steps()[-1].instruction == INSTRUCTIONS[0]
        process.send_signal(signal.SIGINT)
        world.spin_until(lambda: process.poll() is not None, "the end", bench.publish)
        assert process.returncode == 0
        assert numbers(bench.twists[-1]) == [0.0] * 6
    finally:
        process.kill()
        world.close()

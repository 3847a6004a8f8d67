"""The launch files, wherever launch_ros can be imported (it is not on PyPI)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest
import yaml
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
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
        required = (name, argument.name) == ("replay", "bag")
        assert argument.description and (argument.default_value is None) == required


def start_of(name, **given):
    """What a launch file starts with these arguments, in a context that has them."""
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchContext

    context = LaunchContext()
    source = PythonLaunchDescriptionSource(str(ROOT / "launch" / f"{name}.launch.py"))
    description = source.get_launch_description(context)
    context.launch_configurations.update(given)
    found, waiting = [], list(description.entities)
    while waiting:
        entity = waiting.pop(0)
        found.append(entity)
        if entity.condition is None or entity.condition.evaluate(context):
            waiting = [*(entity.execute(context) or []), *waiting] if expands(entity) else waiting
    return [entity for entity in found if type(entity).__name__.endswith("Node")], context


def expands(entity):
    return type(entity).__name__ in ("DeclareLaunchArgument", "OpaqueFunction")


def parameters_of(node, context):
    """The parameters a node would have, last one counts, as the command line gives them."""
    from launch_ros.utilities import evaluate_parameters

    values = {}
    for entry in evaluate_parameters(context, node._Node__parameters):
        body = entry if isinstance(entry, dict) else yaml.safe_load(entry.read_text())["/**"]
        values |= body if isinstance(entry, dict) else body["ros__parameters"]
    return values


@pytest.mark.parametrize(("given", "stamp"), [({}, "observation"), ({"lockstep": "false"}, "now")])
def test_commands_answer_observations_where_the_arm_waits_for_them(tmp_path, given, stamp):
    file = tmp_path / "own.yaml"
    body = {"lockstep": True, "task_index": 3}
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": body}}))
    (arm, node), context = start_of("sim", sim_params_file=str(file), **given)
    assert parameters_of(arm, context) == body | ({"lockstep": False} if given else {})
    told = parameters_of(node, context)
    assert told["command.stamp"] == stamp
    # In slow motion the arm does not go as far as it is told to.
    assert (told.get("input.follow_distance_m") == 0.0) == (stamp == "now")


def test_both_arms_have_every_argument_of_one():
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchContext

    def names(name):
        source = PythonLaunchDescriptionSource(str(ROOT / "launch" / f"{name}.launch.py"))
        description = source.get_launch_description(LaunchContext())
        return {argument.name for argument in description.get_launch_arguments()}

    one = names("real_arm")
    assert names("dual_arm") == (one - {"namespace"}) | {
        f"{side}_{name}" for side in ("left", "right") for name in one
    }


@pytest.mark.parametrize("guard", ["true", "false"])
def test_with_the_guard_commands_go_through_it_alone(guard):
    nodes, context = start_of("real_arm", robot="ur5e", guard=guard, dry_run="false")
    wires = {}
    for node in nodes:
        if node.condition is not None and not node.condition.evaluate(context):
            continue
        executable = node._Node__node_executable
        # The first rule that matches a name counts in rcl.
        pairs = [
            ("".join(part.perform(context) for part in end) for end in pair)
            for pair in node._Node__remappings
        ]
        wires[executable] = dict(reversed([tuple(pair) for pair in pairs]))
        assert parameters_of(node, context)["dry_run"] is False
        assert parameters_of(node, context)["workspace.z_min"] == 0.05
        fingers = "" if (guard, executable) == ("true", "vla_node") else "gripper_command"
        assert parameters_of(node, context)["gripper.action"] == fingers
    servo = "servo_node/delta_twist_cmds"
    if guard == "false":
        assert set(wires) == {"vla_node"} and wires["vla_node"]["~/output/twist"] == servo
        return
    assert wires["vla_node"]["~/output/twist"] == "heisd_guard/input/twist"
    assert wires["vla_node"]["~/output/pose"] == "heisd_guard/input/pose"
    assert wires["vla_node"]["~/output/gripper"] == "heisd_guard/input/gripper"
    assert wires["heisd_guard"]["~/output/gripper"] == "gripper/command"
    assert wires["heisd_guard"]["~/output/twist"] == servo
    assert wires["heisd_guard"]["~/input/joint_states"] == "joint_states"
    assert wires["heisd_guard"]["~/node/estop"] == "vla_node/estop"


@pytest.mark.parametrize("nested", [True, False])
def test_the_guard_is_refused_for_commands_that_it_does_not_know(tmp_path, nested):
    """It would end, and the node command the arm without it."""
    text = (ROOT / "config" / "robots" / "generic.yaml").read_text()
    line = next(line for line in text.splitlines() if "command.interface:" in line)
    space = line[: len(line) - len(line.lstrip())]
    group = f"{space}command: {{interface: joint_velocity}}"
    flat = f"{space}command.interface: joint_velocity"
    file = tmp_path / "joints.yaml"
    file.write_text(text.replace(line, group if nested else flat))
    with pytest.raises(
        ValueError, match=r"command\.interface is 'joint_velocity' in .*joints\.yaml"
    ):
        start_of("real_arm", params_file=str(file), guard="true")
    start_of("real_arm", params_file=str(file), guard="false")


@contextmanager
def launched(name, *arguments):
    """A world in which a launch file runs, and its process, which must end well on SIGINT."""
    world = World()
    environment = {**os.environ, "ROS_DOMAIN_ID": str(world.domain_id)}
    environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    file = str(ROOT / "launch" / f"{name}.launch.py")
    # A session of its own: Ctrl-C in a terminal goes to every process of the launch.
    run = [sys.executable, "-c", RUN, file, *arguments]
    process = subprocess.Popen(
        run, env=environment, start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    try:
        yield world, process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        world.close()


def end(world, process, doing=None):
    os.killpg(process.pid, signal.SIGINT)
    world.spin_until(lambda: process.poll() is not None, "the end", doing)
    said = process.stdout.read()
    assert process.returncode == 0, said
    assert "escalating" not in said  # each process ended within the 5 s that launch gives


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model"))


OWN = {
    "decoding.mode": "heisd",
    "model.path": "/a/model",
    "instruction": "as the file says",
    "use_sim_time": True,
    "dry_run": False,
    "autostart": False,
}
GIVEN = {"decoding.mode": "ar", "model.path": "/b", "instruction": "2", "dry_run": True}
ARGUMENTS = ("mode:=ar", "model:=/b", "instruction:=2", "dry_run:=true")


@pytest.mark.parametrize("name", ["vla", "real_arm"])
@pytest.mark.parametrize(
    ("own", "arguments", "expected"),
    [
        (OWN, (), OWN),
        (OWN, ARGUMENTS, OWN | GIVEN),
        ({"instruction": "x", "autostart": False}, (), {"dry_run": True}),
    ],
)
def test_only_what_was_given_changes_what_the_parameter_file_says(
    tmp_path, name, own, arguments, expected
):
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": own}}))
    given = [f"params_file:={file}", *arguments]
    given += ["configure:=false"] if name == "real_arm" else []
    with launched(name, *given) as (world, _):
        world.add(Node, "asks")
        request = GetParameters.Request(names=list(expected))
        values = world.call(GetParameters, "/vla_node/get_parameters", request).values
        said = [parameter_value_to_python(value) for value in values]
        assert dict(zip(expected, said, strict=True)) == expected


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
def test_the_real_arm_launch_file_is_dry_unless_told_otherwise(model, tmp_path, dry_run):
    file = tmp_path / "arm.yaml"  # its gripper's action needs control_msgs, which no wheel has
    text = (ROOT / "config" / "robots" / "franka.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("gripper.action: gripper_command", 'gripper.action: ""'))
    arguments = [f"params_file:={file}", f"model:={model}", *INPUTS]
    arguments += [f"instruction:={INSTRUCTIONS[0]}"]
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
        wired = {"/left/joint_states", "/right/feedback/joint_states"}
        heard = lambda: {name for name, _ in looks.get_topic_names_and_types()}  # noqa: E731
        world.spin_until(lambda: wired <= heard(), "their inputs")
        end(world, process)


def test_two_arms_may_differ_in_everything(model):
    arguments = [f"model:={model}", "left_robot:=franka", "right_robot:=xarm7"]
    arguments += ["right_joint_states:=arm/states", "right_configure:=false"]
    with launched("dual_arm", *arguments) as (world, process):
        looks = world.add(Node, "looks")
        state = lambda side: world.call(GetState, f"/{side}/vla_node/get_state").current_state  # noqa: E731
        world.spin_until(lambda: state("left").label == "inactive", "the left arm")
        assert state("right").label == "unconfigured"
        heard = lambda: {name for name, _ in looks.get_topic_names_and_types()}  # noqa: E731
        world.spin_until(lambda: "/left/joint_states" in heard(), "its inputs")
        assert "/right/arm/states" not in heard()
        end(world, process)


def test_the_replay_launch_file_asks_for_its_bag_and_ends_with_it(model, tmp_path):
    with launched("replay", f"model:={model}") as (_, process):
        assert process.wait(60) != 0
    bag = cell(5).write(tmp_path / "bag")
    with launched("replay", f"bag:={bag}", "delay:=0", f"model:={model}") as (_, process):
        assert process.wait(60) == 0


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

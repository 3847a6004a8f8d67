"""Parameters: declared once, validated with their name, documented."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from rclpy.node import Node
from support.tree import ROOT

from heisd_ros.nodes.declaration import declare, read
from heisd_ros.nodes.sim.sim_parameters import SimArmParameters
from heisd_ros.robot.declare import markdown_table, parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.recording_parameters import RecordingParameters

KINDS = {"vla_node": VlaNodeParameters, "sim_arm_node": SimArmParameters}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_names_are_unique_described_and_the_defaults_accepted(kind):
    infos = [info for _, info in parameters_of(kind)]
    assert len({info.name for info in infos}) == len(infos)
    assert all(info.description for info in infos)
    assert all((info.low is None) == (info.high is None) for info in infos)
    kind()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_docs_hold_the_table(kind):
    assert markdown_table(kind) in (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")


def test_docs_hold_the_table_of_recordings():
    table = markdown_table(RecordingParameters)
    assert table in (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("file", "kind"), [("vla_node", "vla_node"), ("sim", "sim_arm_node")])
def test_shipped_files_are_keyed_for_any_namespace_and_accepted(file, kind):
    content = yaml.safe_load((ROOT / "config" / f"{file}.yaml").read_text(encoding="utf-8"))
    assert list(content) == ["/**"]
    values = content["/**"]["ros__parameters"]
    fields = {info.name: field.name for field, info in parameters_of(KINDS[kind])}
    KINDS[kind](**{fields[name]: value for name, value in values.items()})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_hz": -1.0}, "'command.rate_hz' is -1.0; accepted: 0 to 500"),
        ({"rate_hz": float("nan")}, "'command.rate_hz' is nan"),
        ({"rate_hz": 20}, "accepted: a double"),
        ({"model_threads": True}, "accepted: a integer"),
        ({"model_dtype": "int8"}, "'model.dtype' is 'int8'; accepted: one of 'float32'"),
        ({"robot_source": "file"}, "'robot.urdf' is ''"),
        ({"gripper_open_action": 1.0}, "'gripper.open_action' is 1.0"),
        ({"robot_joint_names": ()}, r"'robot.joint_names' is \[\]"),
        ({"robot_source": "topic", "robot_tip_frame": ""}, "'robot.tip_frame' is ''"),
        ({"robot_source": "topic", "robot_base_frame": ""}, "'robot.base_frame' is ''"),
        ({"gripper_action": "gripper_command", "gripper_action_name": ""}, "gripper.action_name"),
        ({"servo_node": "servo", "interface": "delta"}, "'servo.node' is 'servo'"),
        ({"frame_id": "world"}, "'command.frame_id' is 'world'; accepted: 'panda_link0' or"),
        ({"frame_id": "panda_hand_tcp", "interface": "pose"}, "accepted: 'panda_link0'$"),
        ({"rate_hz": 50.0, "stamp": "observation"}, "'command.rate_hz' is 50.0; accepted: 0"),
        ({"max_linear_acceleration": 1.0}, "'command.rate_hz' is 0.0; accepted: a rate"),
        (
            {"rate_hz": 50.0, "max_linear_acceleration": 0.001},
            "'command.max_linear_acceleration' is 0.001; accepted: one with which speed / accel",
        ),
        (
            {"rate_hz": 50.0, "max_angular_acceleration": 10.0, "max_angular_jerk": 1e-4},
            "'command.max_angular_jerk' is 0.0001; accepted: one with which speed / acceleration",
        ),
        (
            {"rate_hz": 50.0, "max_linear_acceleration": 2.0, "stop_linear_deceleration": 1.0},
            "'command.stop_linear_deceleration' is 1.0; accepted: 0, or at least",
        ),
        ({"max_angular_jerk": 1.0}, "'command.max_angular_acceleration' is 0.0; accepted: a limit"),
        ({"units": "unitless"}, "'command.max_linear_speed' is 2.0; accepted: up to"),
        ({"workspace_y_min": 1.0, "workspace_y_max": 0.5}, "'workspace.y_min' is 1.0"),
        ({"joint_stop_rad": 0.1, "joint_slow_rad": 0.1}, "'joints.stop_rad' is 0.1"),
        ({"singularity_slow": 17.0}, "'singularity.stop' is 0.0; accepted: more than"),
        ({"joint_velocity_scale": 1.5}, "'joints.velocity_scale' is 1.5; accepted: 0 to 1"),
        ({"collision_stop_m": 0.1, "collision_slow_m": 0.1}, "'collision.stop_m' is 0.1; accepted"),
        ({"collision_table_z": 0.0}, "'collision.table_z' is 0.0; accepted: -10"),
        (
            {"collision_slow_m": 0.1, "collision_stop_m": 0.01, "interface": "pose"},
            "'collision.stop_m' is 0.01; accepted: more than 'command.max_lead_m'",
        ),
        ({"joint_limits": ("panda_joint1 0",)}, "'joints.limits' is 'panda_joint1 0'; accepted"),
        ({"joint_limits": ("panda_joint1 1 nan",)}, "'joints.limits' is 'panda_joint1 1 nan'"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VlaNodeParameters(), **changes)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_node_declares_with_descriptors_and_reads_the_defaults_back(world, kind):
    node = world.add(lambda **options: Node("declares", **options))
    assert declare(node, kind) == {}
    assert read(node, kind) == kind()
    for field, info in parameters_of(kind):
        descriptor = node.describe_parameter(info.name)
        assert descriptor.description == info.description
        assert descriptor.read_only == info.read_only
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        if info.low is not None:
            assert (ranges[0].from_value, ranges[0].to_value) == (info.low, info.high)
            assert type(ranges[0].from_value) is type(field.default)


def test_refused_start_values_are_reported_and_the_default_kept(world):
    wrong = {"model.control_rate_hz": -1.0, "model.threads": "many"}
    node = world.add(lambda **options: Node("refuses", **options), parameters=wrong)
    refused = declare(node, VlaNodeParameters)
    assert set(refused) == set(wrong)
    assert all(name in message for name, message in refused.items())
    assert node.get_parameter("model.control_rate_hz").value == 0.0


@pytest.mark.parametrize("file", sorted((ROOT / "msg").glob("*.msg")), ids=lambda file: file.stem)
def test_docs_name_every_field_of_our_messages(file):
    docs = (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")
    section = docs.split(f"### {file.stem}\n")[1].split("\n### ")[0]
    lines = [line.split("#")[0].split() for line in file.read_text(encoding="utf-8").splitlines()]
    names = [line[1] for line in lines if len(line) == 2]
    assert names and all(f"| `{name}` |" in section for name in names)

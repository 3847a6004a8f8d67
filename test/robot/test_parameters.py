"""Parameters: declared once, validated with their name, documented."""

from __future__ import annotations

import re
import runpy

import pytest
import yaml
from rclpy.node import Node
from support.tree import ROOT

from heisd_ros.nodes.declaration import declare, read
from heisd_ros.nodes.sim.sim_parameters import SimArmParameters
from heisd_ros.robot.declare import from_values, parameters_of, with_values
from heisd_ros.robot.parameters import VlaNodeParameters

KINDS = {"vla_node": VlaNodeParameters, "sim_arm_node": SimArmParameters}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_names_are_unique_described_and_the_defaults_accepted(kind):
    infos = parameters_of(kind)
    assert len({info.name for info in infos}) == len(infos)
    assert all(info.description for info in infos)
    assert all((info.low is None) == (info.high is None) for info in infos)
    kind()


def test_docs_hold_the_tables_that_make_docs_writes():
    tables = runpy.run_path(str(ROOT / "scripts" / "tables.py"))
    texts = [file.read_text(encoding="utf-8") for file in (ROOT / "docs").glob("*.md")]
    assert [tables["written"](text) for text in texts] == texts
    marks = [name for text in texts for name in re.findall("<!-- make docs: (.*) -->", text)]
    assert sorted(marks) == sorted(tables["PARAMETERS"])


@pytest.mark.parametrize(("file", "kind"), [("vla_node", "vla_node"), ("sim", "sim_arm_node")])
def test_shipped_files_are_keyed_for_any_namespace_and_accepted(file, kind):
    content = yaml.safe_load((ROOT / "config" / f"{file}.yaml").read_text(encoding="utf-8"))
    assert list(content) == ["/**"]
    values = content["/**"]["ros__parameters"]
    from_values(KINDS[kind], values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command.rate_hz": -1.0}, "'command.rate_hz' is -1.0; accepted: 0 to 500"),
        ({"command.rate_hz": float("nan")}, "'command.rate_hz' is nan"),
        ({"command.rate_hz": 0.05}, "'command.rate_hz' is 0.05; accepted: 0, or 5 to 500"),
        ({"servo.node": "servo-node"}, "'servo.node' is 'servo-node'; accepted: the name of a"),
        ({"gripper.action_name": "hand grip"}, "'gripper.action_name' is 'hand grip'; accepted"),
        (
            {"joints.limits": ("panda_joint1 -1 1", "panda_joint1 -2 2")},
            "accepted: one range for 'panda_joint1'",
        ),
        ({"command.rate_hz": 20}, "accepted: a double"),
        ({"model.threads": True}, "accepted: a integer"),
        ({"model.dtype": "int8"}, "'model.dtype' is 'int8'; accepted: one of 'float32'"),
        ({"robot.source": "file"}, "'robot.urdf' is ''"),
        ({"gripper.open_action": 1.0}, "'gripper.open_action' is 1.0"),
        ({"robot.joint_names": ()}, r"'robot.joint_names' is \[\]"),
        ({"robot.source": "topic", "robot.tip_frame": ""}, "'robot.tip_frame' is ''"),
        ({"robot.source": "topic", "robot.base_frame": ""}, "'robot.base_frame' is ''"),
        ({"gripper.action": "gripper_command", "gripper.action_name": ""}, "gripper.action_name"),
        ({"servo.node": "servo", "command.interface": "delta"}, "'servo.node' is 'servo'"),
        (
            {"command.frame_id": "world"},
            "'command.frame_id' is 'world'; accepted: 'panda_link0' or",
        ),
        (
            {"command.frame_id": "panda_hand_tcp", "command.interface": "pose"},
            "accepted: 'panda_link0'$",
        ),
        (
            {"command.rate_hz": 50.0, "command.stamp": "observation"},
            "'command.rate_hz' is 50.0; accepted: 0",
        ),
        ({"command.max_linear_acceleration": 1.0}, "'command.rate_hz' is 0.0; accepted: a rate"),
        (
            {"command.rate_hz": 50.0, "command.max_linear_acceleration": 0.001},
            "'command.max_linear_acceleration' is 0.001; accepted: one with which speed / accel",
        ),
        (
            {
                "command.rate_hz": 50.0,
                "command.max_angular_acceleration": 10.0,
                "command.max_angular_jerk": 1e-4,
            },
            "'command.max_angular_jerk' is 0.0001; accepted: one with which speed / acceleration",
        ),
        (
            {
                "command.rate_hz": 50.0,
                "command.max_linear_acceleration": 2.0,
                "command.stop_linear_deceleration": 1.0,
            },
            "'command.stop_linear_deceleration' is 1.0; accepted: 0, or at least",
        ),
        (
            {"command.max_angular_jerk": 1.0},
            "'command.max_angular_acceleration' is 0.0; accepted: a limit",
        ),
        ({"command.units": "unitless"}, "'command.max_linear_speed' is 2.0; accepted: up to"),
        ({"workspace.y_min": 1.0, "workspace.y_max": 0.5}, "'workspace.y_min' is 1.0"),
        ({"joints.stop_rad": 0.1, "joints.slow_rad": 0.1}, "'joints.stop_rad' is 0.1"),
        ({"singularity.slow": 17.0}, "'singularity.stop' is 0.0; accepted: more than"),
        ({"joints.velocity_scale": 1.5}, "'joints.velocity_scale' is 1.5; accepted: 0 to 1"),
        ({"collision.stop_m": 0.1, "collision.slow_m": 0.1}, "'collision.stop_m' is 0.1; accepted"),
        ({"collision.table_z": 0.0}, "'collision.table_z' is 0.0; accepted: -10"),
        (
            {"collision.slow_m": 0.1, "collision.stop_m": 0.01, "command.interface": "pose"},
            "'collision.stop_m' is 0.01; accepted: more than 'command.max_lead_m'",
        ),
        ({"command.interface": "joints"}, "'command.interface' is 'joints'; accepted: one of"),
        (
            {"model.action_space": "joint_velocity"},
            "'command.interface' is 'twist'; accepted: 'joint_velocity' or 'joint_position', as",
        ),
        (
            {"command.interface": "joint_velocity", "command.stamp": "observation"},
            "'command.stamp' is 'observation'; accepted: 'now', as 'command.interface' is",
        ),
        (
            {"command.interface": "joint_position", "servo.node": "servo_node"},
            "'servo.node' is 'servo_node'; accepted: '', as 'command.interface' is 'joint_posi",
        ),
        (
            {"command.interface": "joint_position", "joints.max_acceleration": 1.0},
            "'command.rate_hz' is 0.0; accepted: a rate",
        ),
        ({"joints.max_acceleration": 0.1}, "'joints.max_acceleration' is 0.1; accepted: 0, or 0.2"),
        ({"joints.max_jerk": 10.0}, "'joints.max_acceleration' is 0.0; accepted: a limit"),
        (
            {"joints.max_acceleration": 100.0, "joints.max_jerk": 1.0},
            "'joints.max_jerk' is 1.0; accepted: at least 40, or 0",
        ),
        ({"command.controller_timeout_sec": 0.01}, "accepted: 0, or 0.02 to 1"),
        ({"joints.limits": ("panda_joint1 0",)}, "'joints.limits' is 'panda_joint1 0'; accepted"),
        ({"joints.limits": [1, 2]}, r"'joints.limits' is \[1, 2\]; accepted: a string\[\]"),
        ({"joints.limits": ("panda_joint1 1 nan",)}, "'joints.limits' is 'panda_joint1 1 nan'"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        with_values(VlaNodeParameters(), changes)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_node_declares_with_descriptors_and_reads_the_defaults_back(world, kind):
    node = world.add(lambda **options: Node("declares", **options))
    assert declare(node, kind) == {}
    assert read(node, kind) == kind()
    for info in parameters_of(kind):
        descriptor = node.describe_parameter(info.name)
        assert descriptor.description == info.description
        assert descriptor.read_only == info.read_only
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        if info.low is not None:
            assert (ranges[0].from_value, ranges[0].to_value) == (info.low, info.high)
            assert type(ranges[0].from_value) is type(info.default)


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

"""Documents and pictures of the node name what the node has."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from rclpy.node import Node
from support.robots import robot_files
from support.tree import ROOT

from heisd_ros.control.holds import HoldReason
from heisd_ros.nodes.heisd_guard import HeisdGuard
from heisd_ros.nodes.tools.bench_policy import load_free
from heisd_ros.nodes.vla_node import VlaNode

POLICY = ROOT / "config" / "sros2" / "policy.xml"
WIRED = {
    "~/input/image": "camera/image_raw",
    "~/input/joint_states": "joint_states",
    "~/output/twist": "servo_node/delta_twist_cmds",
    "~/output/gripper": "gripper/command",
}
"""Remappings of launch/real_arm.launch.py, those of a model of one view."""


@pytest.mark.parametrize("reason", HoldReason)
def test_every_hold_has_a_remedy(reason):
    text = (ROOT / "docs" / "real_arm.md").read_text(encoding="utf-8")
    assert f"| `{reason.value}` |" in text


@pytest.mark.parametrize("name", ["policy.xml", "guard_policy.xml"])
def test_the_policy_names_nothing_twice_and_lets_nobody_do_everything(name):
    root = ElementTree.parse(POLICY.with_name(name)).getroot()
    (profile,) = root.iter("profile")
    for group in profile:
        names = [entry.text for entry in group]
        assert len(set(names)) == len(names) and "*" not in "".join(names)
    assert {group.get("reply") for group in profile if group.tag == "services"} == {"ALLOW", None}


def test_the_foxglove_layout_shows_only_panels_it_configures():
    layout = json.loads((ROOT / "config" / "foxglove_layout.json").read_text(encoding="utf-8"))

    def panels(part):
        return {part} if isinstance(part, str) else panels(part["first"]) | panels(part["second"])

    assert panels(layout["layout"]) == set(layout["configById"])


def allowed(kind, permission, file=POLICY, node="vla_node"):
    """Names that the policy of a node allows, in full."""
    groups = ElementTree.parse(file).getroot().iter(kind)
    names = [entry.text for group in groups if group.get(permission) for entry in group]
    return {f"/{name.replace('~/', f'{node}/')}" for name in names}


def test_the_policy_allows_what_the_node_does_and_little_else(world):
    remap = [part for names in WIRED.items() for part in ("-r", ":=".join(names))]
    settings = {"dry_run": False, "instruction": "measure", "gripper.action": ""}
    arguments = ["--ros-args", "--params-file", str(robot_files()["ur5e"]), *remap]
    node = world.add(lambda **kw: VlaNode(load_free, cli_args=arguments, **kw), parameters=settings)
    node.trigger_configure()
    node.trigger_activate()
    looks = world.add(Node, "looks")
    mine = ("vla_node", "/")
    world.spin_until(lambda: looks.get_publisher_names_and_types_by_node(*mine), "the node")

    def names(seen):
        return {name for name, _ in seen if "/_action/" not in name}

    heard = names(looks.get_subscriber_names_and_types_by_node(*mine))
    said = names(looks.get_publisher_names_and_types_by_node(*mine))
    served = names(looks.get_service_names_and_types_by_node(*mine))
    assert "/servo_node/delta_twist_cmds" in said and "/camera/image_raw" in heard
    assert heard <= allowed("topics", "subscribe")
    assert said <= allowed("topics", "publish")
    assert served <= allowed("services", "reply")
    joints = {f"/forward_{kind}_controller/commands" for kind in ("position", "velocity")}
    other_ways = {"/target_pose", "/vla_node/output/delta", *joints}
    assert allowed("topics", "publish") - said <= other_ways
    # A second camera, a person's devices, and what comes with use_sim_time alone.
    assert allowed("topics", "subscribe") - heard <= {
        "/wrist_camera/image_raw",
        "/joy",
        "/vla_node/input/teleop",
        "/clock",
    }
    assert allowed("services", "reply") - served <= {"/vla_node/get_type_description"}


def test_the_guards_policy_allows_what_it_does_and_little_else(world):
    wired = {
        "~/input/joint_states": "joint_states",
        "~/input/status": "vla_node/status",
        "~/output/twist": "servo_node/delta_twist_cmds",
        "~/output/gripper": "gripper/command",
        "~/node/estop": "vla_node/estop",
        "~/node/get_parameters": "vla_node/get_parameters",
    }
    remap = [part for names in wired.items() for part in ("-r", ":=".join(names))]
    arguments = ["--ros-args", "--params-file", str(robot_files()["ur5e"]), *remap]
    # ROS's wheels bring no gripper actions.
    settings = {"dry_run": False, "gripper.action": ""}
    world.add(HeisdGuard, cli_args=arguments, parameters=settings)
    looks, mine = world.add(Node, "looks"), ("heisd_guard", "/")
    world.spin_until(lambda: looks.get_publisher_names_and_types_by_node(*mine), "the guard")
    for kind, permission, seen, rest in (
        ("topics", "subscribe", looks.get_subscriber_names_and_types_by_node, {"/clock"}),
        ("topics", "publish", looks.get_publisher_names_and_types_by_node, {"/target_pose"}),
        ("services", "request", looks.get_client_names_and_types_by_node, set()),
    ):
        names = {name for name, _ in seen(*mine)}
        may = allowed(kind, permission, POLICY.with_name("guard_policy.xml"), "heisd_guard")
        assert names <= may and may - names <= rest | {"/heisd_guard/input/pose"}


@pytest.mark.parametrize("name", ["fastdds.xml", "cyclonedds.xml"])
def test_a_profile_of_a_middleware_is_xml_that_the_page_names(name):
    ElementTree.parse(ROOT / "config" / name)
    assert f"config/{name}" in (ROOT / "docs/real_arm.md").read_text(encoding="utf-8")

"""Inputs are found in a bag by name, and what is wrong is said in one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.errors import ReplayError
from heisd_ros.replay.topics import (
    COMPRESSED,
    DELTA,
    IMAGE,
    JOINTS,
    TELEMETRY,
    TEXT,
    TWIST,
    find_topics,
    read_remaps,
)

VIEWS = ("agentview", "wrist cam")
NODE = {
    "/vla_node/input/image": IMAGE,
    "/vla_node/input/image_wrist_cam": IMAGE,
    "/vla_node/input/joint_states": JOINTS,
}


def test_the_nodes_own_names_are_found_and_what_is_not_there_is_none():
    found = find_topics(VIEWS, NODE, {})
    assert found.images == tuple(list(NODE)[:2]) and not found.compressed
    assert found.joint_states == "/vla_node/input/joint_states"
    assert found.instruction is None and found.recorded is None
    assert set(found.named().values()) == set(NODE)


def test_the_simulated_arms_names_are_known():
    types = {f"/sim_arm_node/{name}": IMAGE for name in ("image", "image_wrist")}
    types |= {"/sim_arm_node/joint_states": JOINTS, "/sim_arm_node/instruction": TEXT}
    found = find_topics(("agentview", "wrist"), types, {})
    assert set(found.named().values()) == set(types)


def test_compressed_images_are_found_beside_the_raw_name():
    types = {f"{name}/compressed": COMPRESSED for name in list(NODE)[:2]}
    types["/vla_node/input/joint_states"] = JOINTS
    assert find_topics(VIEWS, types, {}).compressed


@pytest.mark.parametrize("present", [(TELEMETRY, DELTA, TWIST), (DELTA, TWIST), (TWIST,), ()])
def test_the_most_telling_record_of_the_action_is_taken(present):
    names = {
        TELEMETRY: "/vla_node/telemetry",
        DELTA: "/vla_node/output/delta",
        TWIST: "/vla_node/output/twist",
    }
    found = find_topics(VIEWS, NODE | {names[kind]: kind for kind in present}, {}).recorded
    assert found == ((names[present[0]], present[0]) if present else None)


@given(st.sampled_from([*NODE]), st.text("abc/", min_size=1).map(lambda name: f"/x{name}"))
def test_a_remap_wins_over_every_other_name(name, topic):
    own = name.replace("/vla_node", "~")
    found = find_topics(VIEWS, NODE | {topic: NODE[name]}, {own: topic})
    assert topic in found.named().values() and name not in found.named().values()


@pytest.mark.parametrize(
    ("types", "remaps", "line"),
    [
        (
            {name: kind for name, kind in NODE.items() if kind == IMAGE},
            {},
            r"^no topic for ~/input/joint_states: looked for /vla_node/input/joint_states, "
            r".*; the bag has /vla_node/input/image, .*; name it with --remap",
        ),
        (NODE | {"/vla_node/input/image": JOINTS}, {}, r"is of type .*JointState; accepted for"),
        (NODE, {"~/input/image": "/cam"}, r"^topic /cam is not in the bag; the bag has "),
        (NODE, {"~/input/imag": "/cam"}, r"^remap of '~/input/imag'; accepted: ~/input/image, "),
        (NODE | {"/vla_node/input/image": COMPRESSED}, {}, "are of both .*; accepted: one type"),
        (NODE | {"/vla_node/telemetry": TWIST}, {}, "TwistStamped; accepted for ~/telemetry: "),
        ({}, {}, "the bag has no topic"),
    ],
)
def test_what_is_missing_or_wrong_is_named(types, remaps, line):
    with pytest.raises(ReplayError, match=line) as caught:
        find_topics(VIEWS, types, remaps)
    assert "\n" not in str(caught.value)


def test_the_robot_description_is_needed_only_where_the_robot_comes_from_it():
    with pytest.raises(ReplayError, match="no topic for robot_description"):
        find_topics(VIEWS, NODE, {}, robot_from_topic=True)


def test_remaps_are_written_as_ros_writes_them():
    assert read_remaps(["~/input/image:=cam", "a:=/b"]) == {"~/input/image": "/cam", "a": "/b"}
    for wrong in ("a", ":=b", "a:="):
        with pytest.raises(ReplayError, match="accepted: FROM:=TO"):
            read_remaps([wrong])

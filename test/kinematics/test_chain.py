"""The part of a description that an arm needs: what is off its chain cannot make it invalid."""

from __future__ import annotations

import re

import numpy as np
import pinocchio as pin
import pytest

from heisd_ros.errors import UrdfError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.chain import Description
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf, robots_folder

ARM = (
    ("j1", "revolute", "l0", "l1"),
    ("j2", "revolute", "l1", "l2"),
    ("weld", "fixed", "l2", "tip"),
)
LIMIT = '<limit lower="-3" upper="3" effort="1" velocity="1"/>'


def joint(name, kind, parent, child, mimic="", limit=LIMIT):
    mimic = f"<mimic {mimic}/>" if mimic else ""
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="0.1 0 0.2" rpy="0.3 0 0"/><axis xyz="0 1 0"/>{limit}{mimic}</joint>'
    )


def robot(*more, arm=ARM):
    joints = "".join((*(joint(*parts) for parts in arm), *more))
    names = dict.fromkeys(re.findall(r'link="(\w+)"', joints))
    return f'<robot name="r">{"".join(f"<link name={n!r}/>" for n in names)}{joints}</robot>'


def finger(name, mimic="", kind="prismatic", limit=LIMIT):
    return joint(name, kind, "tip", f"{name}_link", mimic, limit)


@pytest.mark.parametrize(
    "more",
    [
        (finger("left", 'joint="right"'), finger("right")),
        (finger("a"), finger("b", 'joint="a"'), finger("c", 'joint="b"')),
        (finger("a", 'joint="b"'), finger("b", kind="fixed")),
        (finger("a", 'joint="nowhere"'),),
        (finger("a", 'joint="a" multiplier="much"'),),
        (finger("a", limit=""),),
        (finger("a", kind="bendy"),),
        (finger("a"), finger("a")),
        ('<joint name="loose" type="fixed"/>',),
        ("<gazebo:plugin/><transmission><joint name='j1'/><link name='l1'/></transmission>",),
    ],
    ids=lambda more: re.sub("<[^m].*?>", "", "".join(more))[:40] or None,
)
def test_what_is_off_the_chain_does_not_decide(more):
    arm, plain = (ArmKinematics(text, "tip") for text in (robot(*more), robot()))
    assert arm.joint_names == plain.joint_names == ("j1", "j2")
    q = np.array([0.4, -0.7])
    np.testing.assert_array_equal(arm.forward(q).position, plain.forward(q).position)
    np.testing.assert_array_equal(arm.jacobian(q), plain.jacobian(q))


def test_every_link_stays_where_its_joint_at_zero_has_it():
    text = Description(robot(finger("a"), finger("b", 'joint="a"'))).fixed_but(["tip"])
    model = pin.buildModelFromXML(text, True)
    assert [model.names[i] for i in range(1, model.njoints)] == ["j1", "j2"]
    for name in ("a_link", "b_link"):
        frame = model.frames[model.getFrameId(name, pin.FrameType.BODY)]
        place = [0.2, -0.2 * np.sin(0.3), 0.2 + 0.2 * np.cos(0.3)]
        np.testing.assert_allclose(frame.placement.translation, place)


def test_a_mimic_of_a_mimic_on_the_chain_follows_through_both():
    second = 'joint="j1" multiplier="2" offset="0.1"', 'joint="j2" multiplier="-3" offset="0.2"'
    chain = (*ARM[:1], ("j2", *ARM[1][1:], second[0]), ("j3", "revolute", "l2", "tip", second[1]))
    free = ArmKinematics(robot(arm=(*ARM[:2], ("j3", "revolute", "l2", "tip"))), "tip")
    arm = ArmKinematics(robot(arm=chain), "tip")
    assert arm.joint_names == ("j1",)
    q2 = 2 * 0.3 + 0.1
    expected = free.forward(np.array([0.3, q2, -3 * q2 + 0.2]))
    np.testing.assert_allclose(arm.forward(np.array([0.3])).position, expected.position, atol=1e-12)


@pytest.mark.parametrize(
    ("more", "arm", "message"),
    [
        ("", (*ARM[:1], (*ARM[1], 'joint="nowhere"'), ARM[2]), "'j2' mimics 'nowhere'"),
        ("", (*ARM[:1], (*ARM[1], 'joint="j2"'), ARM[2]), "'j2' mimics itself"),
        ("", (*ARM[:1], (*ARM[1], 'joint="j1" offset="x"'), ARM[2]), "'j.' is no number"),
        (joint("again", "fixed", "elsewhere", "l1"), ARM, "several joints above the link 'l1'"),
        (joint("j1", "fixed", "tip", "elsewhere"), ARM, "several joints 'j1'"),
        ("<link name='l1'/>", ARM, "several links 'l1'"),
        ("", (*ARM[:2], ("weld", "revolute", "l2", "tip", "", "")), "'weld' has no <limit>"),
        ("<link", ARM, "not a valid URDF"),
        (
            "",
            (("j1", "revolute", "l2", "l1"), ARM[1], ARM[2]),
            "'tip' hangs on no root|not a valid|a loop",
        ),
        (
            joint("r", "fixed", "l9", "l0"),
            (("j1", "fixed", "l2", "l1"), *ARM[1:]),
            "a loop|not a v",
        ),
    ],
)
def test_what_is_on_the_chain_does(more, arm, message):
    with pytest.raises(UrdfError, match=message):
        ArmKinematics(robot(more, arm=arm), "tip")


@pytest.mark.parametrize(
    ("robot_name", "base", "tip", "joints"),
    [
        ("talos_data/robots/talos_full_v2.urdf", "torso_2_link", "arm_left_7_link", 7),
        ("talos_data/robots/talos_full_v2_box.urdf", "torso_2_link", "gripper_right_base_link", 7),
        ("romeo_description/urdf/romeo.urdf", "torso", "l_wrist", 7),
        ("romeo_description/urdf/romeo_small.urdf", "torso", "r_wrist", 7),
    ],
)
def test_arms_of_robots_with_hands_are_read(robot_name, base, tip, joints):
    text = (robots_folder() / robot_name).read_text(encoding="utf-8")
    assert len(ArmKinematics(text, tip, base_frame=base).joint_names) == joints


def test_a_joint_of_the_rest_of_the_robot_is_not_unknown():
    arm = ArmKinematics(panda_urdf(), PANDA_TIP)
    with pytest.raises(Exception, match=r"of which \['nose'\] are unknown"):
        arm.reorder(["panda_finger_joint1", "nose", *PANDA_JOINTS[1:]], [0.0] * 8)


@pytest.mark.parametrize("depth", [10_000])
def test_deep_and_wide_texts_end_soon(depth):
    deep = "<robot>" + "<link>" * depth + "</link>" * depth + "</robot>"
    wide = "<robot>" + "".join(f"<link name='l{i}'/>" for i in range(depth)) + "</robot>"
    for text in (deep, wide):
        with pytest.raises(UrdfError) as error:
            ArmKinematics(text, "tip")
        assert len(str(error.value)) < 5000

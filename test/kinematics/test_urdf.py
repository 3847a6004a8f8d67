"""A robot description from the network is checked before a parser that could crash sees it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from heisd_ros.errors import UrdfError
from heisd_ros.kinematics import urdf
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_BASE, PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.kinematics.urdf import checked_urdf

LIMIT = '<limit lower="-1" upper="1" effort="1" velocity="1"/>'


def joint(number, parent, child, kind="revolute", inside=f'<axis xyz="0 0 1"/>{LIMIT}'):
    ends = f'<parent link="l{parent}"/><child link="l{child}"/>'
    return f'<joint name="j{number}" type="{kind}">{ends}{inside}</joint>'


def robot(joints, links):
    named = "".join(f'<link name="l{number}"/>' for number in range(links))
    return f'<robot name="r">{named}{joints}</robot>'


def chain(length, kind="revolute"):
    return robot("".join(joint(i, i, i + 1, kind) for i in range(length)), length + 1)


def panda(old, new):
    assert old in panda_urdf()
    return panda_urdf().replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "not a valid URDF: no element found"),
        ("<robot name='r'>\0</robot>", "not a valid URDF"),
        ("<robot name='\ud800'/>", "not a valid URDF"),
        ("x" * 2_000_001, "2000001 characters; accepted: up to 2000000"),
        ("<a>" * 100_000, "201 deep; accepted: up to 200"),
        ("<r>" + "<a/>" * 20_000 + "</r>", "more than 20000 elements"),
        (robot("", 1001), "1001 links and 0 joints; accepted: up to 1000"),
        (chain(201, "fixed"), "chained 201 deep; accepted: up to 200"),
        (chain(129), "129 degrees of freedom; accepted: up to 128"),
        (chain(22, "floating"), "132 degrees of freedom"),
        (robot(joint(0, 0, 1) + joint(1, 1, 0), 2), "form a loop"),
        (robot(joint(0, 0, 1) + joint(1, 2, 2), 3), "form a loop"),
        (robot(joint(0, 0, 2) + joint(1, 1, 2), 3), "'l2' is the child of two joints"),
        ('<!DOCTYPE r [<!ENTITY a "b">]><robot name="&a;"/>', "has a DOCTYPE"),
        (panda('xyz="0 0 0.333"', 'xyz="nan 0 0.333"'), "'xyz' of <origin> in joint 'panda_j"),
        (panda('xyz="0 0 0.333"', 'xyz="1e308 0 0"'), "3 numbers up to 1000"),
        (panda('xyz="0 0 0.333"', 'xyz="0x10 0 0"'), "'0x10 0 0'; accepted: 3 numbers"),
        (panda('xyz="0 0 0.333"', 'xyz="0 0"'), "'0 0'; accepted: 3 numbers"),
        (panda('<axis xyz="0 0 1"', '<axis xyz="0 0 0"'), "joint 'panda_joint1' is '0 0 0'"),
        (panda('lower="-2.8973"', 'lower="-inf"'), "'lower' of <limit>"),
        (panda('lower="-2.8973"', 'lower="3"'), "limits of joint 'panda_joint1' are 3 and 2.8973"),
        (panda('lower="-2.8973"', 'lower="1 2"'), "'1 2'; accepted: 1 numbers"),
    ],
)  # fmt: skip
def test_what_no_arm_needs_is_refused_by_name(text, named):
    with pytest.raises(UrdfError) as raised:
        checked_urdf(text)
    assert named in str(raised.value)
    str(raised.value).encode()  # goes to the log and to telemetry


def test_a_description_stays_what_it_was():
    arm = ArmKinematics(checked_urdf(panda_urdf()), PANDA_TIP, PANDA_JOINTS, PANDA_BASE)
    assert arm.joint_names == PANDA_JOINTS
    assert len(ArmKinematics(chain(urdf.MAX_FREEDOM), "l128").joint_names) == urdf.MAX_FREEDOM
    fixed = robot(joint(0, 0, 1, "fixed", '<axis xyz="0 0 0"/>') + joint(1, 1, 2), 3)
    assert len(ArmKinematics(fixed, "l2").joint_names) == 1
    named = panda_urdf().replace("<robot ", '<robot xmlns="http://www.ros.org" ', 1)
    assert ArmKinematics(named, PANDA_TIP).joint_names == PANDA_JOINTS


def test_a_parser_has_room_for_ten_times_the_chain_that_is_accepted():
    """In a process of its own, since what overflows its stack ends it."""
    links = 10 * urdf.MAX_DEPTH
    code = f"import pinocchio, sys; pinocchio.buildModelFromXML(sys.stdin.read()); print({links})"
    run = subprocess.run(
        [sys.executable, "-c", code], input=chain(links), capture_output=True, text=True
    )
    assert run.stdout.strip() == str(links), run.stderr


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("", "joint 'j' has no <limit>; accepted: one with effort and velocity"),
        ('<limit lower="-1" upper="1" velocity="1"/>', "the <limit> of joint 'j' has no 'effort'"),
        ('<limit lower="-1" upper="1" effort="1"/>', "the <limit> of joint 'j' has no 'velocity'"),
    ],
)
def test_a_limit_without_what_urdf_asks_for_is_named(limit, message):
    text = (
        '<robot name="r"><link name="a"/><link name="b"/><joint name="j" type="revolute">'
        f'<parent link="a"/><child link="b"/><axis xyz="0 0 1"/>{limit}</joint></robot>'
    )
    with pytest.raises(UrdfError, match=message):
        ArmKinematics(text, "b")

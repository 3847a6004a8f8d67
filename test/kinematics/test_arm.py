"""Arm kinematics: the Panda, hand-written chains, joint order, every bad input."""

from __future__ import annotations

import re

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heisd_ros.errors import HeisdError, JointStateError, UrdfError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import (
    PANDA_BASE,
    PANDA_FINGER_JOINTS,
    PANDA_JOINTS,
    PANDA_TIP,
    panda_urdf,
)

PANDA = ArmKinematics(panda_urdf(), PANDA_TIP)
joint_vectors = st.lists(st.floats(-2.8, 2.8), min_size=7, max_size=7).map(np.array)


def joint(name, kind, parent, child, extra=""):
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="0.1 0 0.2" rpy="0.1 0.2 0.3"/><axis xyz="0 1 0"/>'
        f'<limit lower="-9" upper="9" effort="1" velocity="1"/>{extra}</joint>'
    )


def robot(*joints):
    links = sorted(set(re.findall(r'link="(\w+)"', "".join(joints))) or {"a"})
    body = "".join(f'<link name="{link}"/>' for link in links)
    return f'<robot name="r">{body}{"".join(joints)}</robot>'


MIXED = robot(
    joint("swivel", "continuous", "base", "a"),
    joint("lead", "revolute", "a", "b"),
    joint("slide", "prismatic", "b", "c"),
    joint("follow", "revolute", "c", "d", '<mimic joint="lead" multiplier="-2" offset="0.3"/>'),
    joint("finger", "prismatic", "d", "e"),
    joint("weld", "fixed", "d", "tip"),
)


def numeric_twist(arm, q, dq, step=1e-6):
    before, after = arm.forward(q - step * dq), arm.forward(q + step * dq)
    linear = (after.position - before.position) / (2 * step)
    angular = pin.log3(after.rotation @ before.rotation.T) / (2 * step)
    return np.concatenate([linear, angular])


def test_panda_chain_and_a_pose_known_by_hand():
    assert PANDA.joint_names == PANDA_JOINTS
    assert PANDA.base_frame == PANDA_BASE
    pose = PANDA.forward(np.zeros(7))
    # Stretched up: 0.333 + 0.316 + 0.384 up, 0.088 out, then 0.107 + 0.1034 down to the tip.
    np.testing.assert_allclose(pose.position, [0.088, 0.0, 0.8226], atol=1e-9)
    np.testing.assert_allclose(pose.rotation[:, 2], [0.0, 0.0, -1.0], atol=1e-9)


@settings(max_examples=50)
@given(joint_vectors, joint_vectors)
def test_twist_is_the_derivative_of_the_pose(q, dq):
    np.testing.assert_allclose(PANDA.twist(q, dq), numeric_twist(PANDA, q, dq), atol=1e-7)


@settings(max_examples=30)
@given(*[st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3).map(np.array)] * 2)
def test_continuous_prismatic_and_mimic_joints(q, dq):
    arm = ArmKinematics(MIXED, "tip")
    assert arm.joint_names == ("swivel", "lead", "slide")
    np.testing.assert_allclose(arm.twist(q, dq), numeric_twist(arm, q, dq), atol=1e-7)


def arms_from(cut):
    """The Panda from one of its links on, and an arm of other kinds of joints."""
    panda = ArmKinematics(panda_urdf(), PANDA_TIP, base_frame=f"panda_link{cut}")
    return panda, ArmKinematics(MIXED, "tip")


@settings(max_examples=30)
@given(joint_vectors, joint_vectors, st.integers(0, 5))
def test_the_jacobian_times_velocities_is_the_twist(q, dq, cut):
    for arm in arms_from(cut):
        n = len(arm.joint_names)
        expected = arm.twist(q[:n], dq[:n])
        np.testing.assert_allclose(arm.jacobian(q[:n]) @ dq[:n], expected, atol=1e-9)


@settings(max_examples=30)
@given(joint_vectors, joint_vectors, st.integers(0, 5))
def test_the_motion_of_the_tip_is_its_pose_and_its_twist(q, dq, cut):
    for arm in arms_from(cut):
        n = len(arm.joint_names)
        position, velocity = arm.tip_motion(q[:n], dq[:n])
        np.testing.assert_allclose(position, arm.forward(q[:n]).position, atol=1e-12)
        np.testing.assert_allclose(velocity, arm.twist(q[:n], dq[:n])[:3], atol=1e-12)


@given(joint_vectors)
def test_the_skeleton_leads_from_the_base_over_links_of_fixed_length_to_the_tip(q):
    points, stretched = PANDA.skeleton(q), PANDA.skeleton(np.zeros(7))
    assert points.shape == (9, 3) and not points[0].any()
    assert points[-1] == pytest.approx(PANDA.forward(q).position)
    lengths = [np.linalg.norm(np.diff(line, axis=0), axis=1) for line in (points, stretched)]
    assert lengths[0] == pytest.approx(lengths[1])


def test_position_limits_are_those_of_the_description_in_the_order_of_the_joints():
    lower, upper = ArmKinematics(MIXED, "tip", ("slide", "swivel", "lead")).position_limits
    # `follow` mimics `lead`, by -2 and 0.3 rad, and has the same limits.
    assert lower.tolist() == [-9.0, -np.inf, -4.35] and upper.tolist() == [9.0, np.inf, 4.65]


@settings(max_examples=30)
@given(joint_vectors, joint_vectors, st.integers(1, 5))
def test_a_later_base_sees_the_rest_of_the_chain(q, dq, cut):
    base = f"panda_link{cut}"
    rest = ArmKinematics(panda_urdf(), PANDA_TIP, base_frame=base)
    lower = ArmKinematics(panda_urdf(), base)
    assert rest.joint_names == PANDA_JOINTS[cut:]
    a, b, whole = lower.forward(q[:cut]), rest.forward(q[cut:]), PANDA.forward(q)
    np.testing.assert_allclose(a.position + a.rotation @ b.position, whole.position, atol=1e-9)
    np.testing.assert_allclose(
        rest.twist(q[cut:], dq[cut:]), numeric_twist(rest, q[cut:], dq[cut:]), atol=1e-7
    )


@given(st.permutations(range(9)), joint_vectors, joint_vectors)
def test_the_order_of_a_joint_state_does_not_matter(order, q, dq):
    names = [*PANDA_JOINTS, *PANDA_FINGER_JOINTS]
    positions, velocities = [*q, 0.02, 0.02], [*dq, 0.0, 0.0]
    sample = PANDA.reorder(
        [names[i] for i in order], [positions[i] for i in order], [velocities[i] for i in order]
    )
    np.testing.assert_array_equal(sample.positions, q)
    np.testing.assert_array_equal(sample.velocities, dq)


@given(st.permutations(range(7)), joint_vectors, joint_vectors)
def test_a_wanted_joint_order_is_kept(order, q, dq):
    arm = ArmKinematics(panda_urdf(), PANDA_TIP, [PANDA_JOINTS[i] for i in order])
    np.testing.assert_allclose(arm.forward(q[order]).position, PANDA.forward(q).position)
    np.testing.assert_allclose(arm.twist(q[order], dq[order]), PANDA.twist(q, dq), atol=1e-12)


@pytest.mark.parametrize("velocities", [None, [], [0.0] * 3, [np.nan] * 7, [0.0] * 6 + [np.inf]])
def test_unusable_velocities_become_none(velocities):
    assert PANDA.reorder(PANDA_JOINTS, [0.0] * 7, velocities).velocities is None


def test_a_strange_extra_joint_may_be_nan():
    names = ["lift", *PANDA_JOINTS]
    sample = PANDA.reorder(names, [np.nan, *range(7)], [np.nan, *range(7)])
    np.testing.assert_array_equal(sample.positions, range(7))
    np.testing.assert_array_equal(sample.velocities, range(7))


@pytest.mark.parametrize(
    ("names", "positions", "velocities", "message"),
    [
        (PANDA_JOINTS[:6], [0.0] * 6, None, "'panda_joint7'.* missing"),
        ([f"joint_{i}" for i in range(7)], [0.0] * 7, None, "missing.*'joint_0'.* unknown"),
        ((*PANDA_JOINTS, "panda_joint3"), [0.0] * 8, None, "duplicate.*'panda_joint3'"),
        (PANDA_JOINTS, [0.0] * 6, None, r"positions must have shape \(7,\)"),
        (PANDA_JOINTS, [0.0] * 6 + [np.nan], None, "finite.*'panda_joint7': nan"),
        (PANDA_JOINTS, [np.inf] + [0.0] * 6, None, "finite.*'panda_joint1': inf"),
        (PANDA_JOINTS, ["x"] * 7, None, "7 numbers"),
        ([], [], None, "missing"),
    ],
)
def test_bad_joint_states_are_named(names, positions, velocities, message):
    with pytest.raises(JointStateError, match=message):
        PANDA.reorder(names, positions, velocities)


@pytest.mark.parametrize("q", [np.zeros(6), np.full(7, np.nan), np.zeros((7, 1))])
def test_bad_configurations_are_named(q):
    with pytest.raises(JointStateError, match="q must"):
        PANDA.forward(q)
    with pytest.raises(JointStateError, match="dq must"):
        PANDA.twist(np.zeros(7), q)


@pytest.mark.parametrize(
    "names",
    [PANDA_JOINTS[:6], (*PANDA_JOINTS, "panda_finger_joint1"), (*PANDA_JOINTS[:6], "elbow")],
)
def test_a_joint_order_that_is_not_the_chain_is_named(names):
    with pytest.raises(JointStateError, match="joint_names"):
        ArmKinematics(panda_urdf(), PANDA_TIP, names)


@pytest.mark.parametrize(
    ("urdf", "tip", "base", "message"),
    [
        ("", "tip", None, "not a valid URDF"),
        ("<robot name='r'/>", "tip", None, "not a valid URDF"),
        ("just words", "tip", None, "'just words'"),
        (MIXED, "hand", None, "no link 'hand'.*'tip'"),
        (MIXED, "tip", "world", "no link 'world'"),
        (MIXED, "lead", None, "no link 'lead'"),
        (MIXED, "base", None, "no movable joint"),
        (MIXED, "tip", "e", "'e' is not an ancestor of 'tip'"),
        (MIXED, "tip", "b", "mimics a joint before the base"),
        (robot(joint("free", "floating", "base", "tip")), "tip", None, "'free'.*several degrees"),
    ],
)
def test_bad_descriptions_are_named(urdf, tip, base, message):
    with pytest.raises(UrdfError, match=message):
        ArmKinematics(urdf, tip, base_frame=base)


def test_errors_share_a_base():
    assert issubclass(JointStateError, HeisdError)
    assert issubclass(UrdfError, HeisdError)


@pytest.mark.parametrize(
    ("multiplier", "offset", "expected"), [(2, 0.0, 0.25), (-2, 0.0, 0.25), (1, 0.3, 0.2)]
)
def test_a_joint_that_others_follow_keeps_their_limits(multiplier, offset, expected):
    limit = '<limit lower="-{0}" upper="{0}" effort="1" velocity="{1}"/>'
    joints = (
        '<joint name="j1" type="revolute"><parent link="a"/><child link="b"/><axis xyz="0 0 1"/>'
        f"{limit.format(3, 1)}</joint>"
        '<joint name="j2" type="revolute"><parent link="b"/><child link="c"/><axis xyz="0 0 1"/>'
        f'<mimic joint="j1" multiplier="{multiplier}" offset="{offset}"/>{limit.format(0.5, 0.2)}'
        "</joint>"
    )
    links = "".join(f'<link name="{name}"/>' for name in "abc")
    arm = ArmKinematics(f'<robot name="r">{links}{joints}</robot>', "c")
    assert arm.joint_names == ("j1",)
    (lower,), (upper,) = arm.position_limits
    assert upper == pytest.approx(expected) and lower == pytest.approx(
        -0.5 / abs(multiplier) - offset
    )
    assert arm.velocity_limits.tolist() == [pytest.approx(0.2 / abs(multiplier))]


def test_a_follower_that_names_no_range_leaves_its_leader_alone():
    lead = joint("j1", "revolute", "a", "b")
    follow = joint("j2", "revolute", "b", "c", '<mimic joint="j1"/>')
    follow = re.sub(r'(lower|upper)="[^"]*"', "", follow)
    (lower,), (upper,) = ArmKinematics(robot(lead, follow), "c").position_limits
    assert (lower, upper) == (-9.0, 9.0)

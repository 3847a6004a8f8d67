"""Slowing down before joint limits and singularities, with the Panda."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heisd_ros.errors import JointStateError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_BASE, PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.safety.joints import METRES_A_RADIAN, JointGuard, Posture
from heisd_ros.safety.limits import PartLimits, SafetyFilter, SafetyLimits

READY = np.array([0.0, -0.5, 0.0, -2.2, 0.0, 1.8, 0.7])
ARM = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS, PANDA_BASE)
GUARD = JointGuard(0.3, 0.05, 5.0, 12.0)
SETTLE = 0.1
twists = st.lists(st.floats(-1, 1), min_size=6, max_size=6).map(np.array)
offsets = st.lists(st.floats(-0.2, 0.2), min_size=7, max_size=7).map(np.array)
LENGTHS = np.repeat([1.0, METRES_A_RADIAN], 3)


def joint_velocities(twist, q):
    """As a controller by damped least squares moves the joints."""
    jacobian = ARM.jacobian(q)
    return jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 0.02**2 * np.eye(6), twist)


def towards(q, joint):
    """The twist that one joint alone would make."""
    return ARM.jacobian(q) @ np.eye(7)[joint]


def near_upper(joint, distance):
    q = READY.copy()
    q[joint] = ARM.position_limits[1][joint] - distance
    return q


@settings(deadline=None)
@given(twists, offsets)
def test_a_twist_that_is_cut_grows_never_and_leads_back_never(twist, offset):
    shaped, notes = GUARD.shape(twist, Posture(ARM, READY + offset), SETTLE)
    long, short = twist * LENGTHS, shaped * LENGTHS
    assert np.linalg.norm(short) <= np.linalg.norm(long) + 1e-9 and short @ long >= -1e-9
    assert np.array_equal(shaped, twist) or (all(notes.values()) and notes)


@settings(deadline=None)
@given(twists, st.integers(0, 6), st.floats(-0.1, 0.3))
def test_no_joint_goes_to_its_limit_faster_than_it_may_and_the_rest_goes_on(twist, joint, distance):
    guard = JointGuard(0.3, 0.05)
    q = near_upper(joint, distance)
    shaped, _ = guard.shape(twist, Posture(ARM, q), SETTLE)
    speed, wanted = (joint_velocities(each, q)[joint] for each in (shaped, twist))
    room = max(distance - 0.05, 0.0)
    assert speed <= max(min(wanted, room / SETTLE), 0.0) + 1e-5
    # Of the six directions five are free: a twist is stopped only if it leads straight there.
    row = np.array([joint_velocities(axis, q)[joint] for axis in np.eye(6)]) / LENGTHS
    row /= np.linalg.norm(row)
    along = np.linalg.norm(twist * LENGTHS - (twist * LENGTHS) @ row * row)
    assert np.linalg.norm(shaped * LENGTHS) >= along - 1e-5


def test_motion_towards_a_joint_limit_stops_and_away_from_it_does_not():
    guard = JointGuard(slow_rad=0.3, stop_rad=0.05)
    for distance, share in ((0.4, 1.0), (0.175, 0.5), (0.05, 0.0), (-0.1, 0.0)):
        posture = Posture(ARM, near_upper(5, distance))
        there = towards(posture.positions, 5)
        wanted = joint_velocities(there, posture.positions)[5]
        shaped, notes = guard.shape(there, posture, SETTLE)
        speed = joint_velocities(shaped, posture.positions)[5]
        assert speed == pytest.approx(share * wanted, abs=1e-5)
        assert bool(notes) == (share < 1.0)
        back, _ = guard.shape(-there, posture, SETTLE)
        assert np.array_equal(back, -there)
    assert "panda_joint6" in notes["joint_limit"] and "limited to 0" in notes["joint_limit"]


def test_a_policy_that_hovers_at_a_limit_is_not_stuck():
    """What leads there by ever so little is taken out; the rest of the motion stays."""
    q = near_upper(5, 0.05)
    slide = np.array([0.0, 0.1, 0.0, 0.0, 0.0, 0.0])
    a_little = slide + 1e-3 * towards(q, 5)
    shaped, notes = JointGuard(0.3, 0.05).shape(a_little, Posture(ARM, q), SETTLE)
    assert notes and np.linalg.norm(shaped - slide) < 5e-3


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(twists, st.integers(1, 40)), min_size=1, max_size=4))
def test_an_arm_that_does_what_it_is_told_never_crosses_a_limit(legs):
    """Acceleration and jerk come after the guard: it has to leave room to brake."""
    low, high = READY - 0.25, READY + 0.25
    ranges = zip(ARM.joint_names, low, high, strict=True)
    guard = JointGuard(0.2, 0.05, limits={name: (a, b) for name, a, b in ranges})
    linear, angular = PartLimits(0.01, 0.2, 0.5, 10.0), PartLimits(0.05, 1.0, 2.0, 40.0)
    limits = SafetyLimits(linear, angular, joints=guard)
    safety, q, before = SafetyFilter(limits, 0.02, 0.05), READY.copy(), np.zeros(6)
    for wanted, ticks in legs:
        for _ in range(ticks):
            twist = safety.step(wanted, None, Posture(ARM, q)).twist
            q = q + joint_velocities(twist, q) * 0.02
            assert (q > low).all() and (q < high).all()
            for part, most in ((slice(0, 3), linear), (slice(3, 6), angular)):
                change = np.linalg.norm(twist[part] - before[part])
                assert np.linalg.norm(twist[part]) <= most.speed + 1e-9
                assert change <= most.acceleration * 0.02 + 1e-9
            before = twist


def test_limits_given_by_name_replace_those_of_the_description():
    guard = JointGuard(0.1, 0.0, limits={"panda_joint6": (0.0, READY[5] + 0.05)})
    shaped, _ = guard.shape(0.1 * towards(READY, 5), Posture(ARM, READY), SETTLE)
    assert joint_velocities(shaped, READY)[5] == pytest.approx(0.05, abs=5e-3)
    guard.check(ARM)
    with pytest.raises(JointStateError, match="elbow"):
        JointGuard(limits={"elbow": (0.0, 1.0)}).check(ARM)


def test_motion_towards_a_singularity_slows_down_and_back_does_not():
    stretched = np.array([0.0, 0.0, 0.0, -0.12, 0.0, 1.6, 0.7])
    values = np.linalg.svd(ARM.jacobian(stretched), compute_uv=False)
    condition = values[0] / values[-1]
    out = ARM.jacobian(stretched) @ np.eye(7)[3]  # joint 4 towards straight
    for stop, factor in ((condition * 0.9, 0.0), (condition * 1.5, 0.5)):
        guard = JointGuard(singularity_slow=condition * 0.5, singularity_stop=stop)
        shaped, notes = guard.shape(out, Posture(ARM, stretched), SETTLE)
        np.testing.assert_allclose(shaped, factor * out, atol=1e-6)
        assert "condition number" in notes["singularity"]
        assert np.array_equal(guard.shape(-out, Posture(ARM, stretched), SETTLE)[0], -out)


def test_the_filter_counts_and_names_the_cut():
    guard = JointGuard(0.3, 0.05)
    q = near_upper(5, 0.05)
    safety = SafetyFilter(SafetyLimits(joints=guard), 0.02, 0.05)
    limited = safety.step(towards(q, 5), None, Posture(ARM, q))
    assert abs(joint_velocities(limited.twist, q)[5]) < 1e-5 and safety.counts == {"joint_limit": 1}
    assert "panda_joint6" in str(limited)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slow_rad": 0.1, "stop_rad": 0.2}, "stop_rad 0.2"),
        ({"singularity_slow": 20.0, "singularity_stop": 10.0}, "singularity_stop 10.0"),
        ({"limits": {"a": (1.0, 0.0)}}, "limits of a"),
    ],
)
def test_thresholds_in_the_wrong_order_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        JointGuard(**changes)

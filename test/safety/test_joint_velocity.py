"""No joint exceeds its speed limit, for all arms whose descriptions come with the package."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from support.robots import urdf_of

from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.safety.joints import JointGuard, Posture
from heisd_ros.safety.limits import PartLimits, SafetyFilter, SafetyLimits

TIPS = {"franka": "panda_hand_tcp", "ur5e": "tool0", "xarm7": "link7"}
SCALE, TICK, SETTLE = 0.3, 0.02, 0.3
LIMITS = PartLimits(0.02, 0.25, 1.0, 40.0), PartLimits(0.1, 1.0, 5.0, 100.0)


@cache
def arm(name):
    return ArmKinematics(
        urdf_of(name), TIPS[name], None, "panda_link0" if name == "franka" else None
    )


def posture(name, rng, least=0.03):
    """Anywhere in the joints' ranges but in a singularity."""
    low, high = (np.clip(ends, -3.0, 3.0) for ends in arm(name).position_limits)
    while True:
        q = rng.uniform(low, high)
        if np.linalg.svd(arm(name).jacobian(q), compute_uv=False)[-1] > least:
            return q


def speeds(name, q, twist):
    """(n,), rad/s, as an arm moves that inverts its Jacobian exactly."""
    return np.linalg.pinv(arm(name).jacobian(q)) @ twist


@pytest.mark.parametrize("name", TIPS)
def test_an_arm_that_does_what_it_is_told_keeps_its_joints_below_their_limits(name):
    """Also where the ramp has led it to a posture in which less is allowed."""
    rng, limits = np.random.default_rng(1), arm(name).velocity_limits * SCALE
    cut = 0
    for _ in range(4):
        q, before = posture(name, rng), np.zeros(6)
        # Less than 2 cm/rad from a singularity even braking is too fast: it has its own guard.
        joints = JointGuard(singularity_slow=17.0, singularity_stop=30.0, velocity_scale=SCALE)
        safety = SafetyFilter(SafetyLimits(*LIMITS, joints=joints), TICK, 0.05)
        for tick in range(75):
            if tick % 25 == 0:
                wanted = rng.normal(size=6) * np.repeat([0.5, 2.0], 3)
            twist = safety.step(wanted, None, Posture(arm(name), q)).twist
            moving = speeds(name, q, twist)
            assert (np.abs(moving) <= 1.02 * limits).all()
            q = q + moving * TICK
            for part, most in zip((slice(0, 3), slice(3, 6)), LIMITS, strict=True):
                assert np.linalg.norm(twist[part] - before[part]) <= most.acceleration * TICK + 1e-9
            before = twist
        cut += safety.counts["joint_velocity"]
    assert cut


@pytest.mark.parametrize("name", TIPS)
def test_a_twist_is_scaled_as_a_whole_to_what_the_fastest_joint_may_do(name):
    rng, guard = np.random.default_rng(2), JointGuard(velocity_scale=SCALE)
    for _ in range(20):
        q, twist = posture(name, rng), rng.normal(size=6)
        shaped, notes = guard.shape(twist, Posture(arm(name), q), SETTLE)
        share = np.linalg.norm(shaped) / np.linalg.norm(twist)
        np.testing.assert_allclose(shaped, share * twist, atol=1e-12)
        assert (np.abs(speeds(name, q, shaped)) <= arm(name).velocity_limits * SCALE + 1e-9).all()
        assert (share < 1.0) == ("joint_velocity" in notes)
        slow, notes = guard.shape(0.01 * twist, Posture(arm(name), q), 0.02)
        assert np.array_equal(slow, 0.01 * twist) and not notes


def test_near_a_singularity_the_joints_are_not_thought_slower_than_they_are():
    q = np.array([0.0, 0.0, 0.0, -0.12, 0.0, 1.6, 0.7])
    out = arm("franka").jacobian(q) @ np.eye(7)[3]
    out *= 5.0 / np.linalg.norm(out)
    shaped, notes = JointGuard(velocity_scale=1.0).shape(out, Posture(arm("franka"), q), 0.02)
    fastest = np.abs(speeds("franka", q, shaped)) / arm("franka").velocity_limits
    assert 0.3 < fastest.max() <= 1.0 + 1e-9 and "panda_joint" in notes["joint_velocity"]


def test_from_a_singularity_there_is_a_way():
    q = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.57, 0.0])
    back = np.array([0.0, 0.0, -0.1, 0.0, 0.0, 0.0])
    shaped, _ = JointGuard(velocity_scale=0.5).shape(back, Posture(arm("franka"), q), 0.1)
    assert np.linalg.norm(shaped) > 1e-3 and shaped @ back > 0.0


def test_a_joint_without_a_limit_is_not_looked_at():
    text = urdf_of("ur5e")
    for value in ('velocity="3.15"', 'velocity="3.2"'):
        text = text.replace(value, 'velocity="0"')
    free = ArmKinematics(text, "tool0")
    assert np.isinf(free.velocity_limits).all()
    q, twist = np.array([0.3, -1.0, 1.2, -0.5, 1.0, 0.2]), np.full(6, 50.0)
    shaped, notes = JointGuard(velocity_scale=0.5).shape(twist, Posture(free, q), SETTLE)
    assert np.array_equal(shaped, twist) and not notes


def test_a_share_that_is_none_is_named():
    with pytest.raises(ValueError, match=r"velocity_scale 1\.5; accepted: 0 to 1"):
        JointGuard(velocity_scale=1.5)

"""Slowing down before joint limits and singularities, with the Panda."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heisd_ros.errors import JointStateError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_BASE, PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.safety.joints import JointGuard, Posture
from heisd_ros.safety.limits import SafetyFilter, SafetyLimits

READY = np.array([0.0, -0.5, 0.0, -2.2, 0.0, 1.8, 0.7])
ARM = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS, PANDA_BASE)
twists = st.lists(st.floats(-1, 1), min_size=6, max_size=6).map(np.array)


@settings(deadline=None)
@given(twists, st.lists(st.floats(-0.2, 0.2), min_size=7, max_size=7).map(np.array))
def test_a_scaled_twist_keeps_its_direction_and_grows_never(twist, offset):
    guard = JointGuard(0.3, 0.05, 5.0, 12.0)
    factor, kind, words = guard.scale(twist, Posture(ARM, READY + offset))
    assert 0.0 <= factor <= 1.0
    assert (factor == 1.0) or (kind and words)


def test_motion_towards_a_joint_limit_stops_and_away_from_it_does_not():
    guard = JointGuard(slow_rad=0.3, stop_rad=0.05)
    _, upper = ARM.position_limits
    q = READY.copy()
    towards = ARM.jacobian(q) @ np.eye(7)[5]  # what joint 6 alone would do
    for distance, factor in ((0.4, 1.0), (0.175, 0.5), (0.05, 0.0), (-0.1, 0.0)):
        q[5] = upper[5] - distance
        towards = ARM.jacobian(q) @ np.eye(7)[5]
        found, kind, words = guard.scale(towards, Posture(ARM, q))
        assert found == pytest.approx(factor, abs=0.15) and (found > 0.0) == (factor > 0.0)
        assert kind in ("", "joint_limit")
        assert guard.scale(-towards, Posture(ARM, q))[0] > 0.5
    assert "panda_joint6" in words and "scaled by 0.00" in words


def test_limits_given_by_name_replace_those_of_the_description():
    guard = JointGuard(0.1, 0.0, limits={"panda_joint6": (0.0, READY[5] + 0.05)})
    towards = ARM.jacobian(READY) @ np.eye(7)[5]
    assert guard.scale(towards, Posture(ARM, READY))[0] == pytest.approx(0.5, abs=0.05)
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
        found, kind, words = guard.scale(out, Posture(ARM, stretched))
        assert found == pytest.approx(factor, abs=1e-6) and kind == "singularity"
        assert "condition number" in words
        assert guard.scale(-out, Posture(ARM, stretched))[0] == 1.0


def test_the_filter_counts_and_names_the_cut():
    guard = JointGuard(0.3, 0.05)
    q = READY.copy()
    q[5] = ARM.position_limits[1][5] - 0.05
    safety = SafetyFilter(SafetyLimits(joints=guard), 0.02, 0.05)
    limited = safety.step(ARM.jacobian(q) @ np.eye(7)[5], None, Posture(ARM, q))
    assert np.linalg.norm(limited.twist) < 1e-6 and safety.counts == {"joint_limit": 1}
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

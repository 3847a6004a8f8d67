"""Possible and impossible positions are distinguished, and degrees are recognised."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cell_bags import ARM, positions

from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.plausible import allowed, looks_like_degrees, outside, too_fast

LOWER, UPPER = ARM.position_limits
CONTINUOUS = """<robot name="turntable"><link name="base"/><link name="tip"/>
<joint name="turn" type="continuous"><parent link="base"/><child link="tip"/><axis xyz="0 0 1"/>
</joint></robot>"""


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=7, max_size=7))
def test_positions_within_the_limits_can_be(shares):
    row = LOWER + np.array(shares) * (UPPER - LOWER)
    assert not outside(ARM, row[None]).any()
    assert not looks_like_degrees(ARM, np.tile(row, (5, 1)))


def test_a_little_beyond_the_limits_can_be_and_far_beyond_or_nan_cannot():
    row = np.tile(UPPER, (4, 1))
    row[1, 0] += 0.1
    row[2, 3] += 0.5
    row[3, 5] = np.nan
    assert np.argwhere(outside(ARM, row)).tolist() == [[2, 3], [3, 5]]
    lowest, highest = allowed(ARM)
    assert (lowest < LOWER).all() and (highest > UPPER).all()


def test_steps_are_held_against_the_speed_limits():
    assert ARM.velocity_limits.tolist() == [2.175] * 4 + [2.61] * 3
    steps = np.zeros((2, 7))
    steps[0, 2], steps[1, 4] = 0.07, -0.5
    assert np.argwhere(too_fast(ARM, steps, np.array([0.01, 0.05]))).tolist() == [[1, 4]]


def test_degrees_are_known_by_fitting_as_degrees():
    motion = np.stack([positions(at) for at in np.linspace(0.0, 2.0, 40)])
    assert looks_like_degrees(ARM, np.degrees(motion))
    assert not looks_like_degrees(ARM, motion)
    assert not looks_like_degrees(ARM, 1000.0 * motion)  # neither
    assert not looks_like_degrees(ARM, motion[:0])


def test_a_joint_without_limits_turns_as_often_and_as_fast_as_it_likes():
    arm = ArmKinematics(CONTINUOUS, "tip", ["turn"], "base")
    turns = np.linspace(0.0, 11.0, 30)[:, None]
    assert np.isinf(arm.velocity_limits).all()
    assert not outside(arm, 100.0 * turns).any()
    assert not too_fast(arm, turns, np.full(30, 1e-3)).any()
    assert not looks_like_degrees(arm, turns)
    assert looks_like_degrees(arm, np.linspace(-180.0, 180.0, 30)[:, None])

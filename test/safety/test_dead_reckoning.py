"""Dead reckoning against measurements: arms that follow in many ways, and faulty encoders."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heisd_ros.safety.dead_reckoning import (
    ARM_RAD,
    FORGET_M,
    JOINT_RAD,
    STEP_M,
    STILL_RAD,
    ReckonedTip,
    StillJoints,
    foremost,
)

TICK = 0.02


def drive(velocity, follow, seconds, tip=None):
    """Commands a velocity, and lets `follow` say what is measured of the commanded way."""
    tip = tip or ReckonedTip()
    tip.measure(follow(0.0 * np.asarray(velocity)))
    for tick in range(1, round(seconds / TICK) + 1):
        tip.command(np.asarray(velocity), TICK)
        tip.measure(follow(np.asarray(velocity) * tick * TICK))
    return tip


class Lag:
    """An arm that does everything some time later, and sags."""

    def __init__(self, seconds, sag=0.0):
        self._late = deque([np.zeros(3)] * (round(seconds / TICK) + 1), round(seconds / TICK) + 1)
        self._sag = np.array([0.0, 0.0, -sag])

    def __call__(self, way):
        self._late.append(way)
        return self._late[0] + self._sag


def test_an_arm_whose_encoders_are_frozen_is_reckoned_where_it_was_led():
    tip = drive([0.1, 0.0, -0.05], lambda way: np.zeros(3), 2.0)
    np.testing.assert_allclose(tip.position, [0.2, 0.0, -0.1])
    assert tip.behind_sec[0] == pytest.approx(2.0, abs=0.1) and tip.behind_sec[1] == 0.0


@given(st.floats(1e-7, 3e-4), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_noise_of_frozen_encoders_is_no_motion(noise, seed):
    rng = np.random.default_rng(seed)
    tip = drive([0.1, 0.0, 0.0], lambda way: rng.normal(0.0, noise, 3), 2.0)
    assert tip.position[0] == pytest.approx(0.2, abs=2.0 * STEP_M)


@given(st.floats(0.02, 0.5), st.floats(0.0, 0.15), st.floats(0.0, 0.015))
@settings(max_examples=20, deadline=None)
def test_an_arm_that_lags_and_sags_is_behind_by_its_lag_at_most(speed, lag, sag):
    tip = drive([speed, 0.0, 0.0], Lag(lag, sag), 3.0)
    assert tip.lead[0] <= speed * (lag + 2.0 * TICK) + STEP_M
    assert tip.behind_sec.max() < 0.5


@given(st.floats(0.3, 1.0))
@settings(max_examples=20, deadline=None)
def test_an_arm_that_makes_a_part_of_each_motion_stays_within_a_bound(share):
    tip = drive([0.1, 0.0, 0.0], lambda way: share * way, 20.0)
    assert tip.lead[0] <= FORGET_M * (1.0 - share) / share + 2.0 * STEP_M


def test_an_arm_that_is_guided_by_hand_leads_nothing():
    tip = ReckonedTip()
    for step in range(100):
        tip.command(np.zeros(3), TICK)
        tip.measure(np.array([0.3, -0.4, 0.1]) * step / 100.0)
    np.testing.assert_array_equal(tip.lead, 0.0)


def test_encoders_that_thaw_make_the_lead_good_at_once():
    tip = drive([0.1, 0.0, 0.0], lambda way: np.zeros(3), 1.0)
    tip.measure(np.array([0.1, 0.0, 0.0]))
    assert abs(tip.lead[0]) < STEP_M and tip.behind_sec[0] == 0.0


def test_an_arm_that_goes_the_wrong_way_is_ever_further_behind():
    tip = drive([0.1, 0.0, 0.0], lambda way: -way, 2.0)
    assert tip.lead[0] == pytest.approx(0.2) and tip.behind_sec[0] == pytest.approx(2.0, abs=0.1)


def test_the_further_coordinate_counts_in_the_direction_of_the_motion():
    measured, reckoned = np.array([0.5, 0.1, 0.2]), np.array([0.6, 0.2, 0.1])
    chosen = foremost(measured, reckoned, np.array([0.1, -0.1, -0.1]))
    np.testing.assert_array_equal(chosen, [0.6, 0.1, 0.1])


def move(joints, follow, rates, seconds):
    """Commands joint velocities, and lets `follow` say what is measured of them."""
    rates = np.asarray(rates)
    for tick in range(round(seconds / TICK)):
        joints.update(follow(rates * (tick + 1) * TICK), rates * TICK, TICK)
    return joints


def test_one_frozen_joint_is_told_from_those_that_move():
    joints = StillJoints(3)
    move(joints, lambda way: way * [1.0, 0.0, 1.0], [0.1, 0.1, 0.0], 1.0)
    assert (joints.due_sec > 0.0).tolist() == [False, True, False]
    assert joints.due_sec[1] == pytest.approx(1.0 - JOINT_RAD / 0.1, abs=2 * TICK)
    assert joints.told[1] == pytest.approx(0.1)


@pytest.mark.parametrize("noise", [0.0, 1e-6, STILL_RAD / 4])
def test_an_arm_that_stands_altogether_is_told_sooner(noise):
    rng = np.random.default_rng(0)
    joints = move(StillJoints(2), lambda way: rng.uniform(-noise, noise, 2), [0.02, 0.01], 1.0)
    assert joints.due_sec[0] == pytest.approx(1.0 - ARM_RAD / 0.02, abs=2 * TICK)


def test_joints_that_move_late_or_little_are_not_frozen():
    late = deque([np.zeros(2)] * 8, 8)

    def lag(way):
        late.append(way)
        return 0.1 * late[0]

    joints = StillJoints(2)
    for _ in range(3):
        move(joints, lag, [0.5, -0.2], 1.0)
        assert joints.due_sec.max() < 0.2


def test_commands_that_cancel_out_owe_no_motion():
    joints = StillJoints(1)
    for tick in range(200):
        joints.update(np.zeros(1), np.array([0.005 * (-1) ** tick]), TICK)
    assert joints.due_sec[0] == 0.0

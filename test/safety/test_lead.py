"""A target ahead of an arm: smooth for any measurement, near the arm, and led back to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from heisd_ros.kinematics.pose import Pose
from heisd_ros.safety.lead import Lead
from heisd_ros.safety.limits import PartLimits, SafetyFilter, SafetyLimits
from heisd_ros.safety.workspace import Workspace

TICK, ROUND_OFF = 0.02, 1e-6
LINEAR, ANGULAR = PartLimits(0.01, 0.1, 1.0, 40.0), PartLimits(0.05, 0.5, 5.0, 100.0)
BOX = Workspace([0.25, -0.4, 0.02], [0.7, 0.4, 0.6])
MOST = (0.02, 0.1)
HOME = Pose([0.45, 0.0, 0.3], Rotation.from_euler("xyz", [3.0, 0.1, 0.4]).as_matrix())

places = st.tuples(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(-1.0, 1.0)).map(np.array)
turns = st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3).map(np.array)
twists = st.lists(st.floats(-2.0, 2.0), min_size=6, max_size=6).map(np.array)
legs = st.lists(
    st.tuples(twists, st.none() | places, turns, st.integers(1, 25), st.booleans(), st.booleans()),
    min_size=1,
    max_size=6,
)
"""What is wanted; where the arm is, or that it follows; its turn; ticks; noise; whether held."""


def follow(safety, legs, target=HOME, measured=HOME):
    """Targets and measured positions of an arm that jumps about, follows, or is held."""
    targets, tips = [target], [measured.position]
    for wanted, jump, turn, ticks, noisy, held in legs:
        if jump is not None:
            rotation = Rotation.from_rotvec(turn) * Rotation.from_matrix(HOME.rotation)
            measured = Pose(jump, rotation.as_matrix())
        for i in range(ticks):
            here = Pose(measured.position + 0.3 * (noisy and i % 3 == 0), measured.rotation)
            if held:
                limited = safety.halt(TICK)
            else:
                lead = Lead.between(here, target, MOST)
                limited = safety.step(wanted, target.position, None, lead, TICK)
            rotation = Rotation.from_rotvec(limited.motion[3:])
            rotation *= Rotation.from_matrix(target.rotation)
            target = Pose(target.position + limited.motion[:3], rotation.as_matrix())
            targets.append(target)
            tips.append(here.position)
            if jump is None:
                measured = target
    return targets, np.array(tips)


def assert_limits(targets):
    places = np.array([target.position for target in targets])
    turns = Rotation.from_matrix([target.rotation for target in targets])
    for steps, limits in (
        (np.diff(places, axis=0), LINEAR),
        ((turns[1:] * turns[:-1].inv()).as_rotvec(), ANGULAR),
    ):
        values = steps / TICK
        for most in (limits.speed, limits.acceleration, limits.jerk):
            worst = np.linalg.norm(values, axis=1).max()
            assert worst <= most * (1 + 1e-5) + ROUND_OFF / TICK**2
            values = np.diff(values, axis=0, prepend=np.zeros((1, 3))) / TICK
    assert (places >= BOX.low - ROUND_OFF).all() and (places <= BOX.high + ROUND_OFF).all()


@settings(max_examples=40, deadline=None)
@given(legs)
def test_a_target_keeps_every_limit_wherever_the_arm_is_said_to_be(legs):
    targets, _ = follow(SafetyFilter(SafetyLimits(LINEAR, ANGULAR, BOX), TICK, 0.05), legs)
    assert_limits(targets)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(twists, st.integers(1, 40)), min_size=1, max_size=3))
def test_a_target_leads_an_arm_that_stands_by_no_more_than_it_may(legs):
    safety, target = SafetyFilter(SafetyLimits(LINEAR, ANGULAR, BOX), TICK, 0.05), HOME
    for wanted, ticks in legs:
        targets, _ = follow(
            safety, [(wanted, HOME.position, np.zeros(3), ticks, False, False)], target
        )
        target = targets[-1]
        for each in targets:
            offset = Lead.between(HOME, each, MOST).offset
            assert np.linalg.norm(offset[:3]) <= MOST[0] + ROUND_OFF
            assert np.linalg.norm(offset[3:]) <= MOST[1] + 1e-3


def test_a_target_comes_near_its_largest_lead_and_says_so():
    safety = SafetyFilter(SafetyLimits(LINEAR, ANGULAR, BOX), TICK, 0.05)
    wanted = np.array([1.0, 0, 0, 0, 0, 0])
    stands = HOME.position, np.zeros(3), 100, False, False
    targets, _ = follow(safety, [(wanted, *stands)])
    assert targets[-1].position[0] - HOME.position[0] == pytest.approx(0.02, abs=1e-3)
    limited = safety.step(wanted, targets[-1].position, None, Lead.between(HOME, targets[-1], MOST))
    assert "target 0.02 m ahead, accepted: 0.02" in str(limited)


def test_a_target_that_is_far_away_is_led_back_as_far_as_it_has_to():
    safety = SafetyFilter(SafetyLimits(LINEAR, ANGULAR, BOX), TICK, 0.05)
    pushed = np.array([0.55, 0.1, 0.3]), np.array([0.0, 0.0, 0.5])
    targets, _ = follow(safety, [(np.zeros(6), *pushed, 250, False, False)])
    assert_limits(targets)
    offset = Lead.between(
        Pose(
            pushed[0],
            (Rotation.from_rotvec(pushed[1]) * Rotation.from_matrix(HOME.rotation)).as_matrix(),
        ),
        targets[-1],
        MOST,
    ).offset
    assert np.linalg.norm(offset[:3]) == pytest.approx(0.02, abs=1e-3)
    assert np.linalg.norm(offset[3:]) == pytest.approx(0.1, abs=1e-2)


def test_a_sag_within_the_lead_moves_no_target():
    safety = SafetyFilter(SafetyLimits(LINEAR, ANGULAR, BOX), TICK, 0.05)
    sagged = HOME.position - [0.0, 0.0, 0.015]
    still = np.zeros(6), sagged, np.zeros(3), 25, False
    targets, _ = follow(safety, [(*still, False), (*still, True)] * 5)
    assert all((target.position == HOME.position).all() for target in targets)


def test_an_arm_below_the_box_is_led_no_further_out():
    """The box binds where the arm is, too, not only where it was told to be."""
    safety = SafetyFilter(SafetyLimits(LINEAR, ANGULAR, BOX), TICK, 0.05)
    low = Pose([0.45, 0.0, 0.03], HOME.rotation)
    sagged = np.array([0.45, 0.0, 0.015])
    down = np.array([0.0, 0, -1.0, 0, 0, 0]), sagged, np.zeros(3), 30, False, False
    targets, _ = follow(safety, [down], low)
    assert min(target.position[2] for target in targets) == 0.03

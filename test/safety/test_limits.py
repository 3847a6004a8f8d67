"""The safety filter: whatever the input, the output is within every limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heisd_ros.safety.limits import PartLimits, SafetyFilter, SafetyLimits
from heisd_ros.safety.workspace import Workspace

TICK, STEP = 0.02, 0.05
BOX = Workspace([0.2, -0.3, 0.0], [0.7, 0.3, 0.6])
START = np.array([0.45, 0.0, 0.3])
ROUND_OFF = 1e-9

anything = st.floats(allow_nan=True, allow_infinity=True)
sensible = st.floats(-2.0, 2.0)
twists = st.lists(anything | sensible, min_size=6, max_size=6).map(np.array)
"""Also infinite, NaN, huge and tiny numbers."""
events = st.lists(st.tuples(twists, st.integers(1, 40), st.booleans()), min_size=1, max_size=8)
"""What is wanted, for how many ticks, and whether the arm is held meanwhile."""


@st.composite
def parts(draw):
    acceleration = draw(st.floats(0.2, 20.0) | st.just(math.inf))
    jerk = draw(st.floats(2.0, 500.0) | st.just(math.inf))
    return PartLimits(
        step=draw(st.floats(0.001, 0.1) | st.just(math.inf)),
        speed=draw(st.floats(0.01, 3.0)),
        acceleration=acceleration,
        jerk=math.inf if math.isinf(acceleration) else jerk,
    )


def drive(safety, events, position=START, plant=True):
    """Commands and positions over the events, where the arm does what it is told."""
    position, sent, path = position.copy(), [], [position.copy()]
    for wanted, ticks, held in events:
        for _ in range(ticks):
            limited = safety.halt() if held else safety.step(wanted, position, None)
            sent.append(limited.twist)
            if plant:
                position = position + limited.twist[:3] * TICK
            path.append(position.copy())
    return np.array(sent), np.array(path)


def assert_within(sent, limits):
    rest = np.zeros((1, 6))
    change = np.diff(np.concatenate([rest, sent]), axis=0) / TICK
    jerk = np.diff(np.concatenate([rest, change]), axis=0) / TICK
    assert np.isfinite(sent).all()
    for part, limit in ((slice(0, 3), limits.linear), (slice(3, 6), limits.angular)):
        for values, bound in (
            (sent[:, part], min(limit.speed, limit.step / STEP)),
            (change[:, part], limit.acceleration),
            (jerk[:, part], limit.jerk),
        ):
            worst = np.linalg.norm(values, axis=1).max()
            assert worst <= bound * (1 + ROUND_OFF) + 1e-7


@settings(max_examples=150, deadline=None)
@given(parts(), parts(), events, st.booleans())
def test_whatever_goes_in_what_comes_out_is_within_every_limit(linear, angular, events, boxed):
    limits = SafetyLimits(linear, angular, BOX if boxed else None)
    sent, path = drive(SafetyFilter(limits, TICK, STEP), events)
    assert_within(sent, limits)
    if boxed:
        assert (path >= BOX.low - ROUND_OFF).all() and (path <= BOX.high + ROUND_OFF).all()


places = st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3).map(np.array)


@settings(max_examples=50, deadline=None)
@given(parts(), st.lists(st.tuples(events, places), min_size=1, max_size=3))
def test_an_arm_that_is_pushed_about_is_never_commanded_a_jump(linear, legs):
    limits = SafetyLimits(linear, linear, BOX)
    safety = SafetyFilter(limits, TICK, STEP)
    assert_within(np.concatenate([drive(safety, *leg)[0] for leg in legs]), limits)


@settings(max_examples=50, deadline=None)
@given(parts(), events, places)
def test_an_arm_that_is_found_outside_goes_no_further_out(linear, events, position):
    limits = SafetyLimits(linear, linear, BOX)
    _, path = drive(SafetyFilter(limits, TICK, STEP), events, position)
    assert (path <= np.maximum(BOX.high, position) + ROUND_OFF).all()
    assert (path >= np.minimum(BOX.low, position) - ROUND_OFF).all()


@given(st.lists(sensible, min_size=6, max_size=6).map(np.array), st.floats(0.01, 5), parts())
def test_bounding_the_speed_keeps_the_direction(wanted, speed, angular):
    limits = SafetyLimits(PartLimits(speed=speed), PartLimits(step=0.01))
    twist = SafetyFilter(limits, TICK, STEP).step(wanted, None, None).twist
    for part in (slice(0, 3), slice(3, 6)):
        before, after = wanted[part], twist[part]
        assert np.linalg.norm(np.cross(before, after)) < 1e-9
        assert before @ after >= 0.0
    assert np.linalg.norm(twist[3:]) * STEP <= 0.01 * (1 + ROUND_OFF)


@given(st.lists(st.lists(st.floats(-1, 1), min_size=6, max_size=6).map(np.array), max_size=5))
def test_what_is_within_the_limits_passes_to_the_last_bit(wanted):
    """So a run in lock-step repeats itself, whatever the filter is for elsewhere."""
    wide = Workspace([-10.0] * 3, [10.0] * 3)
    limits = SafetyLimits(PartLimits(speed=2.0), PartLimits(speed=20.0), wide)
    safety = SafetyFilter(limits, STEP, STEP)
    for twist in wanted:
        limited = safety.step(twist, START, None)
        assert limited.twist.tolist() == twist.tolist() and not limited.notes


@given(twists, st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 5))
def test_what_is_no_number_does_not_move_the_arm(wanted, bad, where):
    wanted[where] = bad
    safety = SafetyFilter(SafetyLimits(), TICK, STEP)
    limited = safety.step(wanted, None, None)
    assert not limited.twist.any() and "not finite" in str(limited)
    assert safety.counts == {"not_finite": 1}


def test_a_halt_is_a_ramp_to_a_stand_and_a_start_one_from_rest():
    limits = SafetyLimits(PartLimits(speed=0.5, acceleration=1.0, jerk=20.0), workspace=BOX)
    safety = SafetyFilter(limits, TICK, STEP)
    sent, _ = drive(safety, [(np.array([0, 0.3, 0, 0, 0, 0]), 30, False)], plant=False)
    assert sent[0][1] < 0.02 and sent[-1][1] == pytest.approx(0.3)
    halt, _ = drive(safety, [(np.zeros(6), 40, True)])
    assert 0.27 < halt[0][1] < 0.3 and not halt[-1].any() and safety.at_rest
    assert (np.diff(halt[:, 1]) <= 0.0).all()


def test_the_tip_slides_along_a_wall_and_comes_back_in():
    limits = SafetyLimits(PartLimits(speed=0.5, acceleration=2.0), workspace=BOX)
    safety = SafetyFilter(limits, TICK, STEP)
    _, path = drive(safety, [(np.array([0.5, 0.1, 0, 0, 0, 0]), 120, False)])
    assert path[-1][0] == pytest.approx(0.7, abs=2e-3) and path[-1][1] > 0.15
    limited = safety.step(np.array([0.5, 0, 0, 0, 0, 0]), path[-1], None)
    assert "x velocity 0.5 m/s limited to" in str(limited) and "wall at 0.7" in str(limited)
    back = [(np.array([-0.2, 0, 0, 0, 0, 0]), 80, False)]
    _, path = drive(SafetyFilter(limits, TICK, STEP), back, np.array([0.8, 0, 0.3]))
    assert path[-1][0] < 0.7


def test_limits_may_change_while_the_arm_moves_without_a_jump():
    slow = SafetyLimits(PartLimits(speed=0.1, acceleration=1.0, jerk=10.0))
    fast = SafetyLimits(PartLimits(speed=0.5, acceleration=1.0, jerk=40.0))
    wanted = np.array([0.4, 0, 0, 0, 0, 0])
    safety = SafetyFilter(fast, TICK, STEP)
    before, _ = drive(safety, [(wanted, 40, False)])
    safety.limits = slow
    after, _ = drive(safety, [(wanted, 40, False)])
    assert abs(after[0][0] - before[-1][0]) <= 1.0 * TICK + ROUND_OFF
    assert after[-1][0] == pytest.approx(0.1)


def test_nothing_moves_while_the_pose_is_unknown():
    limited = SafetyFilter(SafetyLimits(workspace=BOX), TICK, STEP).step(np.ones(6), None, None)
    assert not limited.twist.any() and list(limited.notes) == ["pose_unknown"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PartLimits(speed=0.0), "limit of speed is 0.0"),
        (lambda: PartLimits(jerk=math.nan), "limit of jerk is nan"),
        (lambda: Workspace([0, 0, 0], [1, 0, 1]), "low < high"),
        (lambda: SafetyFilter(SafetyLimits(PartLimits(jerk=1.0)), 0.1, 0.1), "without acceler"),
        (lambda: SafetyFilter(SafetyLimits(), 0.0, 0.1), "tick 0.0"),
    ],
)
def test_limits_that_make_no_sense_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""A velocity that follows the wanted one: smooth, in time, and always able to stop as planned."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.safety_limits import safety_limits
from heisd_ros.safety.limits import _ON_TIME as ON_TIME
from heisd_ros.safety.limits import PartLimits, SafetyFilter, SafetyLimits
from heisd_ros.safety.ramp import Ramp

TICK = 0.02
ROUND_OFF = 1e-6
STOP_SEC = 0.4
"""What docs/nodes.md states as the longest time of a halt."""

directions = st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3).map(np.array)
limits = st.tuples(st.floats(0.2, 20.0), st.floats(1.0, 500.0) | st.just(math.inf))
wants = st.lists(st.tuples(directions, st.integers(1, 20)), min_size=1, max_size=8)


def assert_smooth(values, acceleration, jerk):
    changes = np.diff(np.array(values), axis=0, prepend=np.zeros((1, 3))) / TICK
    jerks = np.diff(changes, axis=0, prepend=np.zeros((1, 3))) / TICK
    assert np.linalg.norm(changes, axis=1).max() <= acceleration * (1 + ROUND_OFF) + ROUND_OFF
    assert np.linalg.norm(jerks, axis=1).max() <= jerk * (1 + ROUND_OFF) + ROUND_OFF


@settings(max_examples=100, deadline=None)
@given(limits, wants, st.integers(0, 60))
def test_a_planned_stop_keeps_the_limits_wherever_it_begins(limits, wants, ticks):
    ramp, values = Ramp(TICK, *limits), []
    for wanted, count in wants:
        values += [ramp.take(ramp.plan(wanted)) for _ in range(count)]
    values = values[:ticks] or values
    planned = ramp.reserve.copy()
    stop = [ramp.take(ramp.reserve) for _ in range(len(planned))]
    assert np.array_equal(stop, planned) and not stop[-1].any() and ramp.at_rest
    assert_smooth([*values, *stop], *limits) if len(values) < ticks else None
    fastest = max(np.linalg.norm(wanted) for wanted, _ in wants)
    assert np.linalg.norm(stop, axis=1).max() <= fastest * (1 + ROUND_OFF) + ROUND_OFF


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(limits, directions, st.integers(1, 15)), min_size=2, max_size=6))
def test_limits_may_change_at_any_tick(legs):
    """Each change of velocity is within the loosest limits that there were."""
    ramp, values = Ramp(TICK, *legs[0][0]), []
    for each, wanted, count in legs:
        ramp.set_limits(*each)
        values += [ramp.take(ramp.plan(wanted)) for _ in range(count)]
    assert_smooth(values, *(max(each[i] for each, _, _ in legs) for i in (0, 1)))


@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 2.0), st.integers(2, 40))
def test_braking_at_the_very_limit_keeps_the_new_jerk(acceleration, ticks):
    """Rounding puts such an acceleration above its limit, and what is above ends under old ones."""
    ramp, jerk = Ramp(TICK, acceleration, math.inf), acceleration * 5.0
    for _ in range(ticks):
        ramp.take(ramp.plan(np.array([50.0, 0.0, 0.0])))
    ramp.set_limits(acceleration, jerk)
    values = [ramp.value, ramp.take(ramp.reserve)]
    values += [ramp.take(ramp.plan(np.array([50.0, 0.0, 0.0]))) for _ in range(10)]
    jerks = np.diff(np.diff(values, axis=0), axis=0) / TICK**2
    assert np.linalg.norm(jerks, axis=1).max() <= jerk * (1 + ROUND_OFF)


def test_what_is_wanted_is_reached_to_the_last_bit_and_a_stand_is_one():
    ramp, wanted = Ramp(TICK, 1.0, 40.0), np.array([0.1, -0.05, 0.02])
    for _ in range(20):
        ramp.take(ramp.plan(wanted))
    assert ramp.value.tolist() == wanted.tolist()
    for _ in range(20):
        ramp.take(ramp.plan(np.zeros(3)))
    assert ramp.at_rest and not ramp.value.any()


@pytest.mark.parametrize("acceleration", [1e-9, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("jerk", [1e-12, 1e-4, 1.0, 1e9])
def test_a_command_takes_little_time_whatever_the_limits(acceleration, jerk):
    ramp = Ramp(0.002, 5.0, 100.0)
    for _ in range(100):
        ramp.take(ramp.plan(np.array([1.0, 2.0, 3.0])))
    ramp.set_limits(acceleration, jerk)
    began = time.thread_time()
    for wanted in (np.zeros(3), np.array([1.0, -2.0, 0.0])):
        assert np.isfinite(ramp.take(ramp.plan(wanted))).all()
    assert time.thread_time() - began < 0.1


@st.composite
def accepted(draw):
    """Limits that the node accepts, and others that it is changed to in motion."""

    def part(name, most):
        acceleration = draw(st.floats(0.01, 20.0))
        return {
            f"command.max_{name}_speed": draw(st.floats(0.01, most)),
            f"command.max_{name}_acceleration": acceleration,
            f"command.max_{name}_jerk": draw(st.floats(0.1, 500.0) | st.just(0.0)),
            f"command.stop_{name}_deceleration": draw(st.just(0.0) | st.floats(acceleration, 50.0)),
        }

    while True:
        try:
            given = {"command.rate_hz": 50.0, **part("linear", 2.0), **part("angular", 5.0)}
            return safety_limits(from_values(VlaNodeParameters, given))
        except ValueError:
            continue


@settings(max_examples=60, deadline=None)
@given(accepted(), accepted(), st.integers(1, 60), st.integers(0, 10))
def test_a_halt_ends_in_time_with_all_limits_that_are_accepted(first, then, ticks, more):
    safety = SafetyFilter(first, TICK, 0.05)
    # Where the arm is does not matter here: it is known, and there is room.
    first, then = (
        SafetyLimits(each.linear, each.angular, halt_sec=each.halt_sec) for each in (first, then)
    )
    safety.limits = first
    for _ in range(ticks):
        safety.step(np.array([2.0, 1.0, 0.0, 0.0, 5.0, 2.0]), None, None)
    safety.limits = then
    for _ in range(more):
        safety.step(np.array([-2.0, 1.0, 0.0, 0.0, 5.0, 2.0]), None, None)
    halted = 0
    while not safety.at_rest:
        safety.halt()
        halted += 1
        assert halted * TICK <= STOP_SEC + 3.0 * TICK


@pytest.mark.parametrize("rate_hz", [50.0, 25.0, 14.0, 10.5])
def test_a_halt_takes_as_long_when_commands_come_late(rate_hz):
    limits = SafetyLimits(PartLimits(speed=0.1, acceleration=1.0, jerk=40.0))
    safety, sent = SafetyFilter(limits, TICK, 0.05, timeout_sec=0.1), []
    for _ in range(30):
        safety.step(np.array([0.1, 0, 0, 0, 0, 0]), None, None, elapsed_sec=1.0 / rate_hz)
    while not safety.at_rest:
        sent.append(safety.halt(1.0 / rate_hz).twist[0])
    assert len(sent) / rate_hz <= 0.16 + 2.0 / rate_hz
    assert (np.diff([0.1, *sent]) >= -1.0 / rate_hz * (1 + ROUND_OFF)).all()


late = st.lists(st.floats(0.0201, 0.09), min_size=5, max_size=60)


@settings(max_examples=60, deadline=None)
@given(late, wants)
def test_irregular_commands_keep_speed_and_acceleration_by_the_time_that_passed(late, wants):
    limits = SafetyLimits(PartLimits(speed=0.1, acceleration=1.0, jerk=40.0))
    safety, before = SafetyFilter(limits, TICK, 0.05, timeout_sec=0.1), np.zeros(6)
    every = [wanted for wanted, count in wants for _ in range(count)]
    for i, elapsed in enumerate(late):
        wanted = np.concatenate([every[i % len(every)], np.zeros(3)])
        limited = safety.step(wanted, None, None, elapsed_sec=elapsed)
        change = np.linalg.norm(limited.twist - before)
        passed = elapsed + ON_TIME * TICK  # a clock that reads a little early is on time
        assert change <= 1.0 * passed * (1 + ROUND_OFF) + ROUND_OFF
        assert np.linalg.norm(limited.motion) <= 0.1 * passed * (1 + ROUND_OFF)
        # A late command gains no more speed than one in time, and what fading acceleration adds.
        gain = np.linalg.norm(limited.twist) - np.linalg.norm(before)
        assert gain <= (TICK + 1.0 / (2.0 * 40.0)) * (1 + ROUND_OFF)
        before = limited.twist


@pytest.mark.parametrize("gap_sec", [0.11, 4.0, -1.0])
def test_after_a_gap_commands_start_from_rest(gap_sec):
    limits = SafetyLimits(PartLimits(speed=0.1, acceleration=1.0, jerk=40.0))
    safety, wanted = SafetyFilter(limits, TICK, 0.05, timeout_sec=0.1), np.array([1.0, *[0.0] * 5])
    for _ in range(20):
        safety.step(wanted, None, None, elapsed_sec=TICK)
    limited = safety.step(wanted, None, None, elapsed_sec=gap_sec)
    assert 0.0 < limited.twist[0] <= 40.0 * TICK**2 * (1 + ROUND_OFF)
    assert not safety.halt(gap_sec).twist.any()


def test_motion_before_a_tick_is_over_is_as_long_as_the_time():
    """Without a clock, actions come faster than their step and may not add up to more speed."""
    safety = SafetyFilter(SafetyLimits(PartLimits(speed=0.1)), 0.05, 0.05, timeout_sec=0.1)
    wanted = np.array([1.0, *[0.0] * 5])
    moved = sum(safety.step(wanted, None, None, elapsed_sec=1 / 60).motion[0] for _ in range(60))
    assert moved == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("rate_hz", "acceleration", "jerk"), [(500, 1.0, 0.9), (250, 1.0, 0.45), (500, 2.0, 0.8)]
)
def test_a_low_jerk_at_a_high_rate_moves_and_turns_round(rate_hz, acceleration, jerk):
    """The acceleration may be hundreds of times what the jerk changes in a tick."""
    ramp = Ramp(1.0 / rate_hz, acceleration, jerk)
    for wanted in (0.1, -0.1, 0.0):
        for _ in range(3 * rate_hz):
            value = ramp.take(ramp.plan(np.array([wanted, 0.0, 0.0])))
        np.testing.assert_allclose(value, [wanted, 0.0, 0.0], atol=1e-3)


def test_a_limit_that_is_tightened_in_motion_leaves_the_arm_obedient():
    ramp = Ramp(0.002, 1.0, 40.0)
    for _ in range(500):
        ramp.take(ramp.plan(np.array([0.1, 0.0, 0.0])))
    ramp.set_limits(1.0, 0.9)
    for _ in range(2000):
        value = ramp.take(ramp.plan(np.array([-0.1, 0.0, 0.0])))
    np.testing.assert_allclose(value, [-0.1, 0.0, 0.0], atol=1e-3)

"""Starts of calibrations and evaluations: drawn by a seed, each once, and never the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.evaluation.starts import (
    CALIBRATION_DRAWS,
    CALIBRATION_STATES,
    EVALUATION_DRAWS,
    Start,
    calibration_starts,
    evaluation_starts,
)

SEEDS = st.integers(1, 2**31)


def test_starts_of_a_calibration_are_each_used_once_and_drawn_by_the_seed():
    starts = calibration_starts([0, 6], 200, seed=4)
    assert len(set(starts)) == 200 and starts == calibration_starts([0, 6], 200, seed=4)
    assert {start.task_index for start in starts} == {0, 6}
    assert {start.init_state for start in starts} == set(CALIBRATION_STATES)
    assert all(start.variation > 0 for start in starts)
    assert not set(starts) & set(calibration_starts([0, 6], 200, seed=5))
    assert calibration_starts([0, 6], 250, seed=4)[:200] == starts


def test_starts_of_an_evaluation_take_tasks_and_states_in_turn():
    starts = evaluation_starts([0, 6], range(40, 50), 25, seed=4)
    assert [(s.task_index, s.init_state) for s in starts[:4]] == [
        (0, 40),
        (6, 40),
        (0, 41),
        (6, 41),
    ]
    assert len(set(starts)) == 50 and all(start.variation for start in starts)
    assert evaluation_starts([0, 6], range(40, 50), 30, seed=4)[:50] == starts
    assert evaluation_starts([6], range(40, 50), 25, seed=4) == starts[1::2], "each task by itself"


def test_without_a_draw_the_states_are_run_as_they_are():
    assert evaluation_starts([3], range(40, 50), 2, seed=0) == [Start(3, 40), Start(3, 41)]


@given(SEEDS, SEEDS)
def test_no_evaluation_runs_a_start_that_a_calibration_has_seen(one, other):
    """Even where both take the same initial states, and by the same seed."""
    seen = calibration_starts([2], 50, one)
    new = evaluation_starts([2], CALIBRATION_STATES, 50, other)
    assert not set(seen) & set(new)
    assert all(start.variation in CALIBRATION_DRAWS for start in seen)
    assert all(start.variation in EVALUATION_DRAWS for start in new)
    assert not set(CALIBRATION_DRAWS[:1]) & set(EVALUATION_DRAWS[:1])
    assert CALIBRATION_DRAWS.stop <= EVALUATION_DRAWS.start

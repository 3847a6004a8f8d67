"""The grid of control periods that thins out joint states and paces a replay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.control.control_grid import LEEWAY, ControlGrid

RATE_HZ = 20.0
PERIOD = 1.0 / RATE_HZ


def taken(grid, moments):
    """Those that are not early, each taken as its period's."""
    kept = []
    for at in moments:
        if not grid.early(at):
            grid.advance(at)
            kept.append(at)
    return kept


@given(st.lists(st.floats(-0.49 * LEEWAY, 0.49 * LEEWAY), min_size=1, max_size=40))
def test_a_stream_at_the_rate_is_taken_whole_though_it_jitters(jitter):
    moments = [(step + late) * PERIOD for step, late in enumerate(jitter)]
    assert taken(ControlGrid(RATE_HZ), moments) == moments


@given(st.integers(2, 50))
def test_a_faster_stream_is_thinned_to_the_rate(times):
    moments = np.arange(40 * times) * PERIOD / times
    kept = taken(ControlGrid(RATE_HZ), moments)
    assert abs(len(kept) - 40) <= 40 * LEEWAY + 1
    assert np.diff(kept).min() >= (1.0 - LEEWAY) * PERIOD - 1e-9


def test_it_opens_when_the_next_is_on_time_and_starts_again_on_reset():
    grid = ControlGrid(RATE_HZ)
    assert grid.opens == -np.inf and not grid.early(5.0)
    grid.advance(5.0)
    assert grid.opens == pytest.approx(5.0 + (1.0 - LEEWAY) * PERIOD)
    assert grid.early(grid.opens - 1e-6) and not grid.early(grid.opens)
    assert not grid.early(5.0 - 3.0 * PERIOD)  # the clock was set back
    grid.reset()
    assert not grid.early(5.0)

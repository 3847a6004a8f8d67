"""When a policy counts as stalled."""

from __future__ import annotations

import numpy as np

from heisd_ros.sim.stall import STALL_M, STALL_STEPS, Stall


def test_a_tip_that_goes_on_does_not_stall():
    stall = Stall()
    pace = 2.0 * STALL_M / STALL_STEPS
    assert not any(stall.note(np.array([step * pace, 0.0, 0.0]), step) for step in range(200))
    assert stall.at is None


def test_a_tip_that_stays_stalls_once_it_has_stayed_long_enough():
    stall, rng = Stall(), np.random.default_rng(0)
    tips = np.concatenate([np.linspace([0, 0, 0], [0.2, 0, 0], 30), np.full((60, 3), 0.2)])
    tips[30:, 1:] = rng.uniform(-0.001, 0.001, (60, 2))
    noted = [stall.note(tip, step) for step, tip in enumerate(tips)]
    assert stall.at == noted.index(True)
    assert 30 + STALL_STEPS - 3 <= stall.at <= 30 + STALL_STEPS

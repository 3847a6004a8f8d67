"""Paired excess failures where the truth is known: error level and power by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from heisd_ros.evaluation.paired import (
    excess_failures,
    fixed_sequence,
    upper_bound,
    wealth,
)

DELTA, MARGIN = 0.1, 0.05


def pairs(rng, excess, discordant, count):
    """Differences whose mean is `excess`; in a share `discordant` of the pairs they are not 0."""
    worse = (discordant + excess) / 2
    return rng.choice([1, 0, -1], size=count, p=[worse, 1 - discordant, discordant - worse])


@pytest.mark.parametrize("discordant", [0.06, 0.17, 0.5])
def test_an_excess_of_the_margin_passes_no_oftener_than_promised(discordant):
    """At the very margin, and looked at after every pair."""
    rng, trials = np.random.default_rng(0), 1000
    passed = sum(
        (wealth(pairs(rng, MARGIN, discordant, 400), MARGIN) >= 1 / DELTA).any()
        for _ in range(trials)
    )
    assert passed / trials <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / trials)


@pytest.mark.parametrize(("discordant", "count"), [(0.06, 210), (0.17, 500)])
def test_a_mode_that_fails_no_oftener_is_shown_to(discordant, count):
    rng, trials = np.random.default_rng(1), 200
    shown = sum(
        fixed_sequence([pairs(rng, 0.0, discordant, count)], MARGIN, DELTA) == 0
        for _ in range(trials)
    )
    assert shown / trials >= 0.7


def test_a_path_lets_a_bad_setting_pass_no_oftener_than_promised():
    """Two good settings, then two at the margin: whether any of these passes counts once."""
    rng, trials, wrong = np.random.default_rng(2), 400, 0
    for _ in range(trials):
        path = [pairs(rng, excess, 0.1, 300) for excess in (-0.05, 0.0, MARGIN, MARGIN)]
        chosen = fixed_sequence(path, MARGIN, DELTA)
        wrong += chosen is not None and chosen >= 2
    assert wrong / trials <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / trials)


def test_the_walk_ends_at_the_first_setting_that_is_not_shown():
    good, bad = np.zeros(400), np.ones(400)
    assert fixed_sequence([good, good, bad, good]) == 1
    assert fixed_sequence([bad, good]) is None
    assert fixed_sequence([good[:3]]) is None, "three pairs show nothing"


def test_the_upper_bound_covers_and_shrinks():
    rng, trials = np.random.default_rng(3), 100
    bounds = [upper_bound(pairs(rng, 0.02, 0.2, 200), DELTA, 81) for _ in range(trials)]
    assert np.mean(np.array(bounds) < 0.02) <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / trials)
    assert np.median(bounds) < 0.25
    assert upper_bound(np.zeros(2), DELTA) > upper_bound(np.zeros(100), DELTA)
    assert upper_bound(np.ones(50), DELTA) == 1.0


def test_a_stake_is_made_from_what_came_before_alone():
    one, other = np.zeros(20), np.zeros(20)
    other[10:] = 1
    np.testing.assert_array_equal(wealth(one, MARGIN)[:10], wealth(other, MARGIN)[:10])
    assert wealth(one, MARGIN)[10] > wealth(one, MARGIN)[9] > wealth(other, MARGIN)[10] > 0


def test_differences_are_of_failures():
    mode, base = [True, False, True, False], [True, True, False, False]
    assert excess_failures(mode, base).tolist() == [0, 1, -1, 0]
    with pytest.raises(ValueError, match="3 and 4 episodes"):
        excess_failures(mode[:3], base)
    for wrong in ([2.0], [[0.0]], [np.nan]):
        with pytest.raises(ValueError, match="differences"):
            wealth(wrong, MARGIN)
    with pytest.raises(ValueError, match="margin"):
        wealth([0.0], 1.0)

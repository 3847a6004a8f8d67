import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from heisd_ros.evaluation.statistics import (
    Clusters,
    mcnemar,
    paired_difference,
    paired_ratios,
    wilson_interval,
)

counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_the_interval_holds_the_rate_and_stays_in_range(count):
    successes, episodes = count
    low, high = wilson_interval(successes, episodes)
    assert 0.0 <= low <= successes / episodes + 1e-12
    assert successes / episodes - 1e-12 <= high <= 1.0


@given(counts)
def test_the_interval_mirrors_failures(count):
    successes, episodes = count
    low, high = wilson_interval(successes, episodes)
    mirrored = wilson_interval(episodes - successes, episodes)
    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_a_published_value():
    # 80 of 100: 0.7112 to 0.8666 (Wilson's score interval, 95%).
    assert wilson_interval(80, 100) == pytest.approx((0.7112, 0.8666), abs=1e-4)


def test_no_episodes_say_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_more_successes_than_episodes_are_refused():
    with pytest.raises(ValueError, match=r"0\.\.3"):
        wilson_interval(4, 3)


cells = st.tuples(*[st.integers(0, 60)] * 4).filter(any)


@given(cells)
def test_the_paired_interval_holds_the_difference_and_stays_in_range(table):
    _, first, second, _ = table
    estimate = paired_difference(*table)
    assert estimate.value == pytest.approx((first - second) / sum(table))
    assert -1.0 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.high <= 1.0


@given(cells)
def test_the_paired_interval_mirrors_when_the_two_change_places(table):
    both, first, second, neither = table
    here, there = paired_difference(*table), paired_difference(both, second, first, neither)
    assert (here.low, here.high) == pytest.approx((-there.high, -there.low))


def test_pairs_that_agree_narrow_the_paired_interval():
    apart = paired_difference(both=64, first=16, second=16, neither=4)
    alike = paired_difference(both=78, first=2, second=2, neither=18)
    assert alike.high - alike.low < 0.5 * (apart.high - apart.low)


def test_the_paired_interval_covers_the_truth_as_often_as_it_says():
    """Exactly, by summing over every outcome of 40 pairs."""
    truth, pairs = (0.7, 0.08, 0.05, 0.17), 40
    outcomes = [
        (a, b, c, pairs - a - b - c)
        for a in range(pairs + 1)
        for b in range(pairs + 1 - a)
        for c in range(pairs + 1 - a - b)
    ]
    chances = multinomial.pmf(outcomes, pairs, truth)
    likely = [(o, p) for o, p in zip(outcomes, chances, strict=True) if p > 1e-7]
    covered = sum(p for o, p in likely if _covers(o, truth[1] - truth[2]))
    assert sum(p for _, p in likely) > 0.999
    assert covered > 0.93


def _covers(outcome, difference):
    estimate = paired_difference(*outcome)
    return estimate.low <= difference <= estimate.high


def test_no_pairs_say_nothing():
    assert paired_difference(0, 0, 0, 0) == (0.0, -1.0, 1.0)
    assert mcnemar(0, 0) == 1.0


def test_mcnemar_is_the_two_sided_sign_test_of_the_discordant_pairs():
    # 1 of 8: 2 * (1 + 8) / 2^8.
    assert mcnemar(1, 7) == pytest.approx(18 / 256) == pytest.approx(mcnemar(7, 1))
    assert mcnemar(5, 5) == 1.0


clusters = st.lists(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=6), min_size=1, max_size=6)


@given(clusters, st.data())
def test_clusters_count_as_if_written_out_as_often_as_drawn(values, data):
    counts = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values)))
    )
    if not counts.any():
        counts[0] = 1
    written = np.concatenate([v for v, n in zip(values, counts, strict=True) for _ in range(n)])
    found = Clusters([np.array(v) for v in values])
    assert found.median(counts) == pytest.approx(np.median(written))
    assert found.mean(counts) == pytest.approx(np.mean(written))


def test_an_empty_cluster_is_refused():
    with pytest.raises(ValueError, match=r"sizes \[2, 0\]"):
        Clusters([np.ones(2), np.ones(0)])
    with pytest.raises(ValueError, match="sizes"):
        Clusters([])


def made_up_times(rng, episodes=30):
    """Times of two modes in episodes of which some met a slow machine; truly 2 to 1."""
    slow = rng.choice([1.0, 3.0], size=episodes)
    base = [20.0 * s * rng.lognormal(0, 0.1, size=40) for s in slow]
    return Clusters(base), Clusters([10.0 * s * rng.lognormal(0, 0.1, size=40) for s in slow])


def test_pairing_takes_the_machines_noise_out_of_the_ratio():
    rng = np.random.default_rng(1)
    base, other = made_up_times(rng)
    paired = paired_ratios(base, other)
    apart = paired_ratios(base, made_up_times(rng)[1])
    assert paired.mean.low < 2.0 < paired.mean.high
    assert paired.mean.high - paired.mean.low < 0.2 * (apart.mean.high - apart.mean.low)


def test_the_ratios_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    found = [paired_ratios(*made_up_times(rng), seed=i, resamples=200).mean for i in range(100)]
    # 95 of 100 expected; 88 or fewer have a chance below 1%.
    assert sum(estimate.low <= 2.0 <= estimate.high for estimate in found) > 88


def test_a_mode_against_itself_is_exactly_as_fast():
    base, _ = made_up_times(np.random.default_rng(3))
    ratios = paired_ratios(base, base)
    assert ratios.median == ratios.mean == (1.0, 1.0, 1.0)


def test_the_same_seed_gives_the_same_interval():
    base, other = made_up_times(np.random.default_rng(4))
    assert paired_ratios(base, other, seed=5) == paired_ratios(base, other, seed=5)


def test_unpaired_clusters_are_refused():
    with pytest.raises(ValueError, match="1 and 2 clusters"):
        paired_ratios(Clusters([np.ones(3)]), Clusters([np.ones(3)] * 2))

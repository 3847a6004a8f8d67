import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.evaluation.statistics import wilson_interval

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

"""Risk control where the truth is known, and the alarm's error rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom

from heisd_ros.decoding.conformal import (
    DriftAlarm,
    TaskAlarms,
    choose,
    least_bound,
    least_episodes,
    risk_bounds,
)

shapes = st.tuples(st.integers(1, 30), st.integers(1, 6))
tables = arrays(float, shapes, elements=st.floats(0, 1))
risks = st.floats(0.01, 0.5)


def test_nineteen_episodes_are_the_least_for_five_percent():
    assert least_episodes(0.05) == 19


@given(risks)
def test_with_the_least_number_only_perfect_settings_pass(risk):
    n = least_episodes(risk)
    assert choose(risk_bounds(np.zeros((n, 1))), risk * (1 + 1e-9)) == 0
    if n > 1:
        assert choose(risk_bounds(np.zeros((n - 1, 1))), risk) is None


@given(tables)
def test_bounds_are_those_of_the_formula(table):
    n = len(table)
    expected = [(sum(column) + 1) / (n + 1) for column in table.T]
    assert risk_bounds(table) == pytest.approx(expected)
    worst = [[max(row[: j + 1]) for j in range(len(row))] for row in table]
    assert risk_bounds(table, "path_maximum") == pytest.approx(risk_bounds(worst))


@given(tables)
def test_the_path_maximum_is_the_careful_rule_and_rises(table):
    careful = risk_bounds(table, "path_maximum")
    assert (careful >= risk_bounds(table) - 1e-12).all()
    assert (np.diff(careful) >= -1e-12).all()


@given(tables, st.randoms())
def test_the_order_of_episodes_says_nothing(table, random):
    order = list(range(len(table)))
    random.shuffle(order)
    assert risk_bounds(table[order]) == pytest.approx(risk_bounds(table))


def test_the_walk_ends_at_the_first_bound_above_the_risk():
    assert choose([0.02, 0.05, 0.051, 0.01], 0.05) == 1
    assert choose([0.02, 0.03], 0.05) == 1
    assert choose([0.06, 0.01], 0.05) is None


@given(tables, st.integers(0, 30))
def test_missing_episodes_only_add_to_the_least_bound(table, missing):
    losses = table[:, 0]
    assert least_bound(losses, len(losses)) == pytest.approx(risk_bounds(table)[0])
    at_best = np.concatenate([losses, np.zeros(missing)])
    least = least_bound(losses, len(at_best))
    assert least == pytest.approx(risk_bounds(at_best[:, None])[0])
    assert least <= risk_bounds(np.concatenate([losses, np.ones(missing)])[:, None])[0]


@pytest.mark.parametrize("losses", [[], [0.1], [[0.1], [1.2]], [[np.nan]]])
def test_losses_must_be_a_table_of_shares(losses):
    with pytest.raises(ValueError, match="loss"):
        risk_bounds(losses)


@pytest.mark.parametrize("risk", [0.0, 1.0, -0.1, float("nan")])
def test_a_risk_is_a_share(risk):
    with pytest.raises(ValueError, match="risk"):
        choose([0.1], risk)
    with pytest.raises(ValueError, match="risk"):
        least_episodes(risk)


def shares(rng, trials, n, rates, skips, shared):
    """Losses [trials, n, J] of episodes whose skips disagree at rates that vary between episodes.

    `shared`: how much of what makes an episode hard is so at every setting. Losses rise along the
    path on average, while those of one episode may fall.
    """
    shape = (trials, n, len(rates))
    hard = shared * rng.exponential(size=(trials, n, 1)) + (1 - shared) * rng.exponential(
        size=shape
    )
    number = rng.poisson(skips, size=shape)
    broken = rng.binomial(number, np.clip(rates * hard, 0, 1))
    return broken / np.maximum(number, 1)


def rising(rng, trials, n, rates):
    """Losses [trials, n, J] of which none falls along the path: one threshold an episode."""
    hard = rng.exponential(size=(trials, n, 1))
    return np.clip(rates * hard, 0, 1)


def all_or_nothing(rng, trials, n, rates):
    """Losses [trials, n, J] of 0 and 1, independent at each setting."""
    return (rng.random((trials, n, len(rates))) < rates).astype(float)


WORLDS = {
    "rising": lambda rng, t, n: rising(rng, t, n, np.linspace(0.02, 0.4, 8)),
    "few skips": lambda rng, t, n: shares(rng, t, n, np.linspace(0.02, 0.4, 8), 5, 0.5),
    "many skips": lambda rng, t, n: shares(rng, t, n, np.linspace(0.02, 0.4, 8), 60, 0.8),
    "at the edge": lambda rng, t, n: shares(rng, t, n, np.linspace(0.09, 0.12, 8), 40, 0.5),
    "independent": lambda rng, t, n: all_or_nothing(rng, t, n, np.linspace(0.02, 0.4, 8)),
}


@pytest.mark.parametrize("episodes", [19, 100])
@pytest.mark.parametrize("rule", ["each_setting", "path_maximum"])
@pytest.mark.parametrize("world", WORLDS)
def test_the_loss_of_a_fresh_episode_is_within_the_risk(world, rule, episodes):
    """The claim itself: calibrate, run one more episode, many times over."""
    risk, trials = 0.1, 2000
    losses = WORLDS[world](np.random.default_rng(0), trials, episodes + 1)
    fresh = []
    for table in losses:
        chosen = choose(risk_bounds(table[:-1], rule), risk)
        fresh.append(0.0 if chosen is None else table[-1, chosen])
    # Three standard errors: the mean over trials is itself only measured.
    assert np.mean(fresh) <= risk + 3 * np.std(fresh) / np.sqrt(trials)
    if (world, episodes) == ("rising", 100):
        assert np.mean(fresh) > 0.7 * risk  # a promise kept by never skipping is none


def test_a_fresh_episode_at_a_stricter_setting_is_within_the_risk_too():
    """What feedback relies on: it may be anywhere from the strictest to the chosen setting."""
    risk, trials, episodes = 0.1, 2000, 60
    losses = WORLDS["many skips"](np.random.default_rng(1), trials, episodes + 1)
    worst = []
    for table in losses:
        chosen = choose(risk_bounds(table[:-1], "path_maximum"), risk)
        worst.append(0.0 if chosen is None else table[-1, : chosen + 1].max())
    assert np.mean(worst) <= risk + 3 * np.std(worst) / np.sqrt(trials)


def test_each_setting_is_no_theorem_where_losses_fall():
    """A made-up world in which it is exceeded, by little: constant losses, then a coin's."""
    n, risk, coin = 100, 0.3, 0.33
    constant = (risk * (n + 1) - 1) / n  # the greatest loss that passes
    passes = binom.cdf(np.floor(risk * (n + 1) - 1), n, coin)
    expected = (1 - passes) * constant + passes * coin
    assert risk < expected < risk + 0.005
    # By the other rule the coin's setting never passes: its path maximum is far above the risk.
    assert (1 - coin) * constant + coin > risk + 0.2


def episodes_until_alarm(alarm, means, checks, rng):
    """Number of the episode at whose end the alarm goes off; one more than there are if never."""
    for number, mean in enumerate(means, 1):
        for _ in range(checks):
            alarm.add(rng.random() < mean)
        alarm.end_episode()
        if alarm.raised:
            return number
    return len(means) + 1


@pytest.mark.parametrize("checks", [1, 4])
@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("limit", [0.1, 0.6])
def test_false_alarms_are_as_rare_as_promised(limit, checks, clustered):
    """At the very limit, also where episodes are wholly good or wholly bad."""
    rng = np.random.default_rng(0)
    episodes, trials, alarms = 20, 200, 0
    for _ in range(trials):
        alarm = DriftAlarm(limit)
        means = (rng.random(episodes) < limit) if clustered else np.full(episodes, limit)
        alarms += episodes_until_alarm(alarm, means.astype(float), checks, rng) <= episodes
    promised = episodes / alarm.patience
    assert alarms / trials <= promised + 3 * np.sqrt(promised / trials)


@pytest.mark.parametrize(("limit", "checks"), [(0.1, 10), (0.2, 5), (0.3, 3), (0.45, 2), (0.6, 2)])
def test_twice_the_calibrated_disagreement_is_noticed_within_ten_episodes(limit, checks):
    rng = np.random.default_rng(0)
    drifted = np.full(60, min(2 * limit, 1.0))
    delays = [episodes_until_alarm(DriftAlarm(limit), drifted, checks, rng) for _ in range(100)]
    assert np.median(delays) <= 10 and np.mean(np.array(delays) <= 30) >= 0.9


@pytest.mark.parametrize(("limit", "checks"), [(0.2, 5), (0.3, 3), (0.45, 2)])
def test_a_bad_task_does_not_hide_among_good_ones(limit, checks):
    """Ten tasks in turn, one of them at twice the limit and the others at half of it."""
    rng = np.random.default_rng(0)
    delays, pooled = [], []
    for _ in range(50):
        alarms, alone = TaskAlarms(limit), DriftAlarm(limit)
        delays.append(0)
        while delays[-1] < 30 and not alarms.raised("0"):
            delays[-1] += 1
            for task in range(10):
                mean = min(2.0 * limit, 1.0) if task == 0 else 0.5 * limit
                for lost in rng.random(checks) < mean:
                    alarms.add(str(task), bool(lost))
                    alone.add(bool(lost))
                alarms.end_episode()
                alone.end_episode()
        pooled.append(alone.raised)
    assert np.median(delays) <= 10
    assert np.mean(pooled) < 0.2, "over all tasks there is little to see"


def test_drift_is_noticed_also_after_a_long_good_time():
    rng = np.random.default_rng(0)
    delays = []
    for _ in range(100):
        alarm = DriftAlarm(0.05)
        assert episodes_until_alarm(alarm, np.full(50, 0.01), 4, rng) > 50
        delays.append(episodes_until_alarm(alarm, np.full(60, 0.4), 4, rng))
    assert max(delays) <= 60 and np.median(delays) <= 10


def test_a_run_without_end_does_not_escape():
    alarm = DriftAlarm(0.05)
    for _ in range(5 * DriftAlarm.BATCH):
        alarm.add(True)
    assert alarm.raised
    assert (alarm.checks, alarm.losses) == (250, 250)


def test_an_episode_without_checks_changes_nothing():
    alarm = DriftAlarm(0.05, patience=20.0)
    alarm.add(True)
    for _ in range(10):
        alarm.end_episode()
    assert not alarm.raised  # one bad episode is worth 18.1
    alarm.add(True)
    alarm.end_episode()
    assert alarm.raised


@pytest.mark.parametrize(("limit", "patience"), [(0.0, 10.0), (1.0, 10.0), (0.1, 1.0)])
def test_an_alarm_needs_a_limit_and_patience(limit, patience):
    with pytest.raises(ValueError, match="must be"):
        DriftAlarm(limit, patience)

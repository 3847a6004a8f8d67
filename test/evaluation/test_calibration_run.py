"""The walk along the path, with losses made up."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.skipping import calibration

from heisd_ros.decoding.conformal import choose, risk_bounds
from heisd_ros.errors import CalibrationError
from heisd_ros.evaluation.calibration_episodes import EpisodeLoss
from heisd_ros.evaluation.calibration_run import FILE, CalibrationRun

EPISODES, SKIPS = 20, 50


def candidate(**changes):
    values = {"chosen": None, "tried": (), "risk": 0.1, "episodes": EPISODES, "created": ""}
    return calibration(**(values | changes))


def start(folder, provenance=None, **changes):
    return CalibrationRun(candidate(**changes), folder / FILE, provenance or {"tasks": [0, 1]})


def loss(broken, skipped=SKIPS, success=True):
    return EpisodeLoss(skipped, broken, retrieved=80, steps=100, success=success)


def walk(run, broken, most=10**6):
    """Runs what is pending, at most so many episodes; `broken` [episodes, settings]."""
    ran = []
    while pending := run.pending():
        for setting, episode in pending:
            if len(ran) == most:
                return ran
            run.add(setting, episode, loss(int(broken[episode][setting])))
            ran.append((setting, episode))
            if run.fails(setting):
                break
    return ran


def constant(*broken, episodes=EPISODES):
    return np.tile(broken, (episodes, 1))


def test_the_loosest_setting_within_the_risk_is_chosen(tmp_path):
    run = start(tmp_path)
    ran = walk(run, constant(0, 2, 10))
    found = run.result()
    assert found.chosen == 1
    # The third is given up once six episodes make (6 * 0.2 + 1) / 21 > 0.1 certain.
    assert [setting.episodes for setting in found.tried] == [20, 20, 6]
    assert len(ran) == 46
    assert found.measured.loss == pytest.approx(0.04)
    assert found.measured.bound == pytest.approx((20 * 0.04 + 1) / 21)
    assert found.measured.skip_rate == 0.5 and found.measured.retrieved_rate == 0.8
    assert found.measured.disagreement == pytest.approx(0.04)
    assert found.tried[2].bound > found.risk
    assert found.created.endswith("+00:00")


def test_by_failure_an_episode_that_failed_is_lost(tmp_path):
    run = start(tmp_path, criterion="failure", risk=0.1)
    for setting, failed in ((0, 1), (1, 2)):
        for episode in range(EPISODES):
            run.add(setting, episode, loss(20, success=episode >= failed))
    found = run.result()
    assert found.chosen == 0 and len(found.tried) == 2
    assert found.measured.loss == pytest.approx(1 / 20)
    assert found.measured.bound == pytest.approx(2 / 21)
    assert found.measured.disagreement == pytest.approx(0.4)
    assert found.measured.episode_disagreement == pytest.approx(0.4)


def test_a_path_that_holds_throughout_is_walked_to_its_end(tmp_path):
    run = start(tmp_path)
    walk(run, constant(0, 0, 0))
    assert run.result().chosen == 2


def test_where_the_strictest_fails_nothing_is_chosen(tmp_path):
    run = start(tmp_path)
    walk(run, constant(20, 0, 0))
    found = run.result()
    assert found.chosen is None and len(found.tried) == 1


def test_nothing_is_tried_beyond_the_first_failure(tmp_path):
    run = start(tmp_path)
    assert {setting for setting, _ in walk(run, constant(0, 20, 0))} == {0, 1}
    assert run.result().chosen == 0


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 12)),
        min_size=EPISODES,
        max_size=EPISODES,
    ),
    st.sampled_from(["each_setting", "path_maximum"]),
)
def test_giving_up_early_chooses_what_all_episodes_would(tmp_path_factory, table, rule):
    risk = 0.101  # no sum of losses comes to it exactly
    run = start(tmp_path_factory.mktemp("run"), rule=rule, risk=risk)
    walk(run, table)
    assert run.result().chosen == choose(risk_bounds(np.array(table) / SKIPS, rule), risk)


@pytest.mark.parametrize("most", [0, 7, 20, 33])
def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, most):
    broken = constant(0, 2, 10)
    before = walk(start(tmp_path), broken, most)
    run = start(tmp_path)
    after = walk(run, broken)
    assert len(before) == most and not set(before) & set(after)
    assert len(before) + len(after) == 46
    assert run.result().chosen == 1
    assert not start(tmp_path).pending()


def test_an_unfinished_run_has_no_result(tmp_path):
    run = start(tmp_path)
    walk(run, constant(0, 0, 0), most=10)
    with pytest.raises(CalibrationError, match="still to be run"):
        run.result()


def test_risk_and_number_of_episodes_may_change_on_the_way(tmp_path):
    broken = constant(0, 2, 10, episodes=40)
    walk(start(tmp_path), broken)
    more = start(tmp_path, episodes=40)
    assert {episode for _, episode in more.pending()} == set(range(20, 40))
    walk(more, broken)
    assert more.result().measured.episodes == 40
    # Back to fewer and a greater risk: only the third setting's missing ones are run.
    bold = start(tmp_path, risk=0.3)
    assert {setting for setting, _ in walk(bold, broken)} == {2}
    assert bold.result().chosen == 2 and bold.result().measured.episodes == 20


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"database_id": "database-b"}, "database_id"),
        ({"model_fingerprint": "model-b"}, "model_fingerprint"),
        ({"similarity": (0.98, 0.9, 0.7)}, "similarity"),
        ({"similarity": (0.98,), "dispersion": (1.0,)}, "similarity, dispersion"),
        ({"criterion": "failure"}, "criterion"),
        ({"provenance": {"tasks": [0]}}, "provenance"),
    ],
)
def test_another_runs_file_is_refused(tmp_path, changes, named):
    walk(start(tmp_path), constant(0, 0, 0), most=1)
    with pytest.raises(CalibrationError, match=rf"another {named}; delete it"):
        start(tmp_path, **changes)


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: values.pop("losses"),
        lambda values: values["losses"].append([9, 0, 1, 1, 1, 1, True]),
        lambda values: values["losses"].append([0, 0, 1]),
        lambda values: values.update(losses=5),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, damage):
    walk(start(tmp_path), constant(0, 0, 0), most=1)
    values = json.loads((tmp_path / FILE).read_text())
    damage(values)
    (tmp_path / FILE).write_text(json.dumps(values))
    with pytest.raises(CalibrationError, match="damaged"):
        start(tmp_path)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(CalibrationError, match="damaged"):
        start(tmp_path)


def test_too_few_episodes_for_the_risk_are_refused(tmp_path):
    with pytest.raises(CalibrationError, match=r"18 episodes .* 5\.0%; at least 19"):
        start(tmp_path, risk=0.05, episodes=18)

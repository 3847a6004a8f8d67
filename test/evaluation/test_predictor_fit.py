"""The fit, its costs and its ablation where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from support.predictors import COSTS, PREDICTED
from support.probed import episodes_of, table

from heisd_ros.decoding.predictor import CHANCES, WAYS
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.terms import SEARCHED, TERMS, UNSEEN
from heisd_ros.errors import PredictorError
from heisd_ros.evaluation.predictor_ablation import ablation, chosen
from heisd_ros.evaluation.predictor_fit import (
    Probed,
    costs_of,
    fit_chance,
    fit_predictor,
    mean_passes,
)
from heisd_ros.evaluation.predictor_rig import FittedParts
from heisd_ros.evaluation.predictor_steps import COLUMNS, ProbedEpisodes

SKIPPING = {"policy": "predicted", "agree": 30, "chance": 0.8, "clearance": 4, "speed": 0.12}
MODE = ModeSettings.from_dict({**PREDICTED, "skip": SKIPPING})
PARTS = FittedParts("database-a", "model-a", "drafter-a")


@pytest.fixture(scope="module")
def steps():
    return Probed(*table(), agree=30)


def test_the_fits_find_what_decides(steps):
    for name, term, weight in (
        ("retrieval", "similarity", 2.0),
        ("last_command", "change", -1.5),
        ("skip", "missed", -2.0),
    ):
        fit = fit_chance(steps, name).fit
        weights = dict(zip(fit.terms, fit.weights, strict=True))
        assert weights.pop(term) == pytest.approx(weight, abs=0.3)
        assert max(map(abs, weights.values())) < 0.25
        assert fit.auc > 0.75 and fit.steps >= 1770
        assert all(abs(said - share) < 0.12 for said, share, _ in fit.reliability)
    assert fit_chance(steps, "drafter").fit.auc == pytest.approx(0.5, abs=0.06)


def test_what_is_asked_before_the_search_knows_nothing_of_it(steps):
    fit = fit_chance(steps, "retrieval before the search").fit
    assert fit.terms == UNSEEN and not set(SEARCHED) & set(fit.terms)
    assert fit.auc == pytest.approx(0.5, abs=0.06)
    assert fit_chance(steps, "retrieval").fit.terms == TERMS


def test_a_step_where_a_way_could_not_be_tried_is_left_out(steps):
    fitted = fit_chance(steps, "last_command")
    assert fitted.fit.steps == 30 * 59
    assert np.isnan(fitted.chances[::60]).all() and np.isfinite(fitted.chances[1::60]).all()


def test_harmless_is_near_and_of_the_same_gripper():
    columns = np.zeros((4, len(COLUMNS)))
    columns[:, COLUMNS.index("away")] = [30.0, 31.0, 0.0, np.nan]
    columns[:, COLUMNS.index("gripper")] = [1.0, 1.0, 0.0, np.nan]
    happened, tried = Probed(columns, np.arange(4), agree=30).outcome("skip")
    assert happened.tolist() == [True, False, False, False]
    assert tried.tolist() == [True, True, True, False]


def test_mean_passes_are_of_the_steps_on_each_side():
    columns = np.zeros((5, len(COLUMNS)))
    columns[:, COLUMNS.index("retrieval")] = [1, 2, 3, 5, np.nan]
    assert mean_passes(Probed(columns, np.arange(5), 0), "retrieval") == (1.5, 4.0)


def test_too_few_episodes_and_steps_that_all_went_one_way_are_refused():
    columns, episode = table(episodes=4)
    with pytest.raises(PredictorError, match=r"240 steps of 4 episodes.* at least 5"):
        fit_chance(Probed(columns, episode, 30), "retrieval")
    columns, episode = table(episodes=6, each=10)
    columns[:, COLUMNS.index("drafter")] = 3.0
    with pytest.raises(PredictorError, match="drafter: 60 steps of 6 episodes, in 0 of which"):
        fit_chance(Probed(columns, episode, 30), "drafter")


def test_costs_come_back_from_times_made_by_them():
    def row(source, passes, ms, times):
        return {"source": source * times, "passes": [passes] * times, "ms": [ms] * times}

    rows = [
        row("l", 1, 9.0, 20), row("l", 2, 13.0, 30), row("r", 2, 14.0, 40), row("r", 3, 18.0, 9),
        row("d", 1, 9.0, 5), row("d", 3, 19.0, 9), row("s", 0, 4.2, 7), row("a", 7, 90.0, 50),
    ]  # fmt: skip
    found = costs_of(rows)
    assert (found.step, found.language) == pytest.approx((5.0, 4.0))
    assert (found.search, found.drafter, found.skip) == pytest.approx((1.0, 2.0, 4.2))
    without = costs_of(rows[:-2])
    assert without.skip == pytest.approx(6.0), "no skipped step: a step without a pass"
    with pytest.raises(PredictorError, match="20 verified steps do not tell"):
        costs_of(rows[:1])


def test_episodes_come_back_from_their_file_and_the_predictor_is_theirs(tmp_path):
    columns, episode = table(episodes=8, each=40)
    file = tmp_path / "run.json"
    episodes = episodes_of(ProbedEpisodes(file, {"suite": "a"}), columns, episode)
    assert episodes.pending(10) == [8, 9]
    again = ProbedEpisodes(file, {"suite": "a"})
    assert again.pending(8) == []
    np.testing.assert_allclose(again.steps()[0], columns)
    np.testing.assert_array_equal(again.steps()[1], episode)
    found = fit_predictor(again, MODE, PARTS, COSTS)
    assert set(found.chances) == set(CHANCES) and found.costs == COSTS
    assert found.starts == tuple((0, 32 + number, 0) for number in range(8))
    found.check("database-a", "model-a", "drafter-a", MODE)
    with pytest.raises(PredictorError, match="another run"):
        ProbedEpisodes(file, {"suite": "b"})
    file.write_text("[]")
    with pytest.raises(PredictorError, match="delete it"):
        ProbedEpisodes(file, {"suite": "a"})


def test_choices_by_the_truth_cost_less_than_any_single_way(steps):
    """The modelled time is recomputed here by a loop of its own."""
    acted = "lsra" * (len(steps.table) // 4)
    found = ablation(steps, MODE, COSTS, acted)["modelled"]
    single = [found[f"always {way}"] for way in ("retrieval", "last_command", "drafter")]
    ours = found["all terms"]
    assert ours["ms"] < min(way["ms"] for way in single)
    assert 0.05 < ours["skipped"] < 0.6 and ours["harmful"] < 0.2
    assert sum(ours["ways"].values()) == pytest.approx(1.0, abs=1e-3)
    passes = np.where(np.isnan(steps["last_command"]), steps["drafter"], steps["last_command"])
    by_hand = (COSTS.step + COSTS.language * passes).mean()
    assert found["always last_command"]["ms"] == pytest.approx(by_hand, abs=0.01)
    shares = found["the mode that acted"]["ways"]
    assert set(shares.values()) == {0.25} and set(shares) == {"skip", *WAYS}


def test_nothing_is_skipped_against_the_rules_of_the_mode(steps):
    sure = {name: np.ones(len(steps.table)) for name in CHANCES}
    slow = ModeSettings.from_dict({**PREDICTED, "skip": {**SKIPPING, "speed": 1.0}})
    assert chosen(steps, sure, slow, COSTS).skipped == 0.0
    close = ModeSettings.from_dict({**PREDICTED, "skip": {**SKIPPING, "clearance": 100}})
    assert chosen(steps, sure, close, COSTS).skipped == 0.0
    free = {**SKIPPING, "speed": 0.0, "clearance": 0, "max_consecutive": 2}
    often = chosen(steps, sure, ModeSettings.from_dict({**PREDICTED, "skip": free}), COSTS)
    assert often.skipped == pytest.approx(2 / 3, abs=0.01), "two in a row, then a verified step"


def test_terms_that_decide_nothing_can_be_left_out(steps):
    areas = ablation(steps, MODE, COSTS)["auc"]
    assert areas["without any kinematic term"]["retrieval"] == pytest.approx(
        areas["all terms"]["retrieval"], abs=0.02
    )

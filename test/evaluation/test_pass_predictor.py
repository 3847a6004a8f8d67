"""The fit where the truth is known, and its steps from made-up rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.evaluations import episode, made_up_results, step
from typer.testing import CliRunner

from heisd_ros.cli.main import app
from heisd_ros.evaluation.accounting import episode_row
from heisd_ros.evaluation.pass_predictor import (
    TERMS,
    Logistic,
    Steps,
    auc,
    describe,
    foreseen,
    foretold,
    reliability,
)


def drawn(weights, offset=0.3, episodes=60, each=50, seed=0):
    """Steps whose chances follow from standard normal terms; those without a weight are noise."""
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=(episodes * each, len(TERMS)))
    log_odds = terms @ np.array([weights.get(name, 0.0) for name in TERMS]) + offset
    passed = rng.random(len(terms)) < 1.0 / (1.0 + np.exp(-log_odds))
    return Steps(terms, passed, np.repeat(np.arange(episodes), each))


def test_the_fit_finds_the_weights():
    steps = drawn({"similarity": 1.5, "speed": -0.8})
    fit = Logistic.fit(steps.terms, steps.passed)
    found = dict(zip(TERMS, fit.weights, strict=True))
    assert found["similarity"] == pytest.approx(1.5, abs=0.2)
    assert found["speed"] == pytest.approx(-0.8, abs=0.15)
    assert fit.offset == pytest.approx(0.3, abs=0.15)
    others = [found[name] for name in TERMS if name not in ("similarity", "speed")]
    assert np.abs(others).max() < 0.15


def test_what_says_nothing_adds_nothing():
    steps = drawn({"similarity": 1.5})
    alone, with_f = (foreseen(steps, terms).auc for terms in (("similarity",), TERMS))
    assert 0.75 < alone < 0.9 and with_f == pytest.approx(alone, abs=0.01)
    assert foreseen(steps, ("F",)).auc == pytest.approx(0.5, abs=0.05)


def test_what_is_only_so_in_an_episode_foresees_nothing():
    """A term that names the episode would be learnt by heart, were its steps in both parts."""
    rng = np.random.default_rng(1)
    episode_of = np.repeat(np.arange(40), 50)
    terms = np.full((2000, len(TERMS)), np.nan)
    terms[:, 0] = rng.permutation(40)[episode_of]
    passed = rng.random(2000) < rng.random(40)[episode_of]
    assert abs(foreseen(Steps(terms, passed, episode_of), ("F",)).auc - 0.5) < 0.2


def test_chances_are_reliable():
    steps = drawn({"similarity": 1.5, "acceleration": 0.5}, episodes=100)
    bins = reliability(foreseen(steps).chances, steps.passed)
    assert sum(count for *_, count in bins) == 5000
    assert all(abs(chance - share) < 0.09 for chance, share, _ in bins)
    assert bins[0][0] < 0.2 < 0.8 < bins[-1][0]


def test_areas_by_hand():
    passed = np.array([False, False, True, True])
    assert auc(np.array([0.1, 0.2, 0.3, 0.4]), passed) == 1.0
    assert auc(np.array([0.4, 0.3, 0.2, 0.1]), passed) == 0.0
    assert auc(np.array([0.1, 0.3, 0.2, 0.4]), passed) == 0.75
    assert auc(np.ones(4), passed) == 0.5


def test_terms_are_of_what_is_known_before_the_step():
    records = [
        step("retrieval", passes=1, similarity=0.9, tip=(0.0, 0, 0), metric=0.5),
        step("skip", passes=0, similarity=0.8, tip=(0.01, 0, 0)),
        step("drafter", passes=3, tip=(0.03, 0, 0), gripper=1.0),
        step("retrieval", passes=1, similarity=0.7, tip=(0.03, 0, 0), gripper=1.0),
        step(tip=(0.03, 0, 0), gripper=1.0),
    ]
    rows = [episode_row("heisd", episode(records, init_state=state)) for state in range(5)]
    steps = Steps.of(rows)
    assert steps.passed.tolist() == [True, False, True] * 5, "skips and plain steps are none"
    first, drafted, last = (dict(zip(TERMS, row, strict=True)) for row in steps.terms[:3])
    assert (first["F"], first["similarity"], first["speed"]) == (0.5, 0.9, 0.0)
    assert np.isnan(first["last passed"]) and first["last skipped"] == 0.0
    assert drafted["speed"] == pytest.approx(0.4) and drafted["acceleration"] == pytest.approx(4.0)
    assert drafted["last skipped"] == 1.0 and np.isnan(drafted["last passed"])
    assert drafted["since gripper change"] == 0.0 and last["since gripper change"] == 1.0
    assert first["since gripper change"] == 40.0
    assert last["last passed"] == 0.0 and np.isnan(last["F"]) and np.isnan(drafted["similarity"])


def test_too_little_is_refused():
    with pytest.raises(ValueError, match="at least 5 episodes"):
        describe(made_up_results(tasks=1, states=1).episodes[:1])
    with pytest.raises(ValueError, match="0 verified steps of 0 episodes"):
        describe([])


def test_the_command_prints_and_writes_the_fit(tmp_path):
    results = made_up_results(tasks=3, states=3)
    path, out = tmp_path / "eval.json", tmp_path / "out" / "fit.json"
    path.write_text(json.dumps({**results.finish(), "episodes": results.episodes}))
    ran = CliRunner().invoke(app, ["predictor", str(path), "--mode", "spec_vla"])
    assert ran.exit_code == 2 and "cannot be told apart" in " ".join(ran.output.split())
    for row in results.episodes:
        row["passes"] = [1 + i % 2 for i in range(row["steps"])]
    path.write_text(json.dumps({**results.finish(), "episodes": results.episodes}))
    ran = CliRunner().invoke(app, ["predictor", str(path), "--json", str(out)])
    assert ran.exit_code == 0, ran.output
    found = json.loads(out.read_text())
    assert set(found["auc"]) >= {"F alone", "all but F", "all"} and "similarity" in ran.output
    assert set(found["weights"]) == set(TERMS) and found["steps"] > 100


def test_what_was_foretold_is_of_verified_drafts_alone():
    steps = [("retrieval", 2, 0.9), ("skip", 0, 0.8), ("drafter", 3, 0.4), ("last_command", 1, 0.7)]
    records = [step(source, passes=passes) for source, passes, _ in steps]
    for record, (*_, chance) in zip(records, steps, strict=True):
        object.__setattr__(record.result, "chance", chance)
    row = episode_row("heisd_predicted", episode(records))
    assert row["chance"] == [0.9, 0.8, 0.4, 0.7]
    said, passed = foretold([row, episode_row("ar", episode([step()]))])
    assert said.tolist() == [0.9, 0.4, 0.7] and passed.tolist() == [True, False, True]
    assert "chance" not in episode_row("ar", episode([step()]))

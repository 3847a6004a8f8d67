"""A closed loop is predicted from what its steps were, and from nothing else."""

from __future__ import annotations

import json

import pytest

from heisd_ros.benchmark.prediction import StepTimes, predict
from heisd_ros.errors import BenchmarkError

TIMES = StepTimes(
    eager=100.0, plain=50.0, seen=2.0, search=1.0, prefill=10.0, verifying=11.0, token=5.0,
    verified=6.0, draft=3.0, skipped=3.5,
)  # fmt: skip
PLAIN = {"one_pass": True, "redraft": False}


@pytest.mark.parametrize(
    ("source", "passes", "mode", "ms"),
    [
        ("s", 0, {}, 3.5),
        ("a", 7, {}, 50.0),
        ("r", 1, {}, 2 + 1 + 11),
        ("r", 4, {}, 2 + 1 + 11 + 3 * 5),
        ("r", 3, {"redraft": True}, 2 + 1 + 11 + 2 * 6),
        ("r", 3, {"one_pass": False}, 2 + 1 + 10 + 6 + 5),
        ("l", 1, {}, 2 + 11),
        ("l", 2, {"redraft": True}, 2 + 11 + 6),
        ("d", 2, {}, 2 + 10 + 3 + 6),
        ("d", 4, {}, 2 + 10 + 3 + 6 + 2 * 5),
        ("d", 3, {"redraft": True}, 2 + 10 + 3 + 2 * 6),
        ("d", 1, {"drafter": {"last": True}}, 2 + 11),
        ("d", 2, {"drafter": {"last": True}}, 2 + 11 + 3 + 6),
    ],
)
def test_a_step_is_the_sum_of_its_passes(source, passes, mode, ms):
    assert TIMES.step(source, passes, PLAIN | mode) == pytest.approx(ms)


def evaluation(tmp_path, source, passes):
    path = tmp_path / "eval.json"
    row = {"mode": "one", "source": source, "passes": passes, "steps": len(passes)}
    content = {"model": "f" * 64, "suite": "any", "modes": {"one": {"settings": PLAIN}}}
    path.write_text(json.dumps(content | {"episodes": [row]}))
    return path


def test_a_loop_is_the_mean_of_its_steps(tmp_path):
    predicted = predict(evaluation(tmp_path, "sra", [0, 1, 7]), TIMES)
    mode = predicted["modes"]["one"]
    mean = (3.5 + 14.0 + 50.0) / 3
    assert mode["mean_ms"] == pytest.approx(mean, abs=1e-3) and mode["p50_ms"] == 14.0
    assert mode["over_eager"] == pytest.approx(100.0 / mean, abs=1e-3)
    assert mode["over_optimised"] == pytest.approx(50.0 / mean, abs=1e-3)
    assert "not measured" in predicted["note"]


@pytest.mark.parametrize("text", ["{", "[]", '{"episodes": []}'])
def test_what_is_no_evaluation_is_named(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=r"other\.json is no evaluation"):
        predict(path, TIMES)

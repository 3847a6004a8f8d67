from dataclasses import fields

import numpy as np
import pytest
from support.evaluations import episode, step

from heisd_ros.decoding.types import StepResult
from heisd_ros.evaluation.accounting import episode_row, summarise
from heisd_ros.evaluation.compare import compare, pairs_of
from heisd_ros.evaluation.rollout import StepRecord


def rows_of(mode, outcomes, ms, tokens=(5,) * 7, settled=None):
    """An episode of three steps for each outcome, in tasks 0, 1, ..."""
    steps = [step(ms=ms, tokens=tokens, settled=settled) for _ in range(3)]
    return [
        episode_row(mode, episode(steps, task_index=task, success=outcome))
        for task, outcome in enumerate(outcomes)
    ]


def test_speed_and_success_against_the_base():
    base = rows_of("ar", [True, True, False, False], 30.0)
    rows = [*base, *rows_of("heisd", [True, False, True, True], 10.0)]
    found = compare(rows, "heisd", "ar")
    assert (found["base"], found["pairs"]) == ("ar", 4)
    assert found["speedup_median"] == {"value": 3.0, "low": 3.0, "high": 3.0}
    assert found["speedup_mean"]["value"] == pytest.approx(3.0)
    assert (found["only_mode"], found["only_base"]) == (2, 1)
    assert found["success_difference"]["value"] == 0.25
    assert found["p_value"] == 1.0


def test_verifying_in_motion_slows_compute_alone():
    rows = [*rows_of("ar", [True], 30.0), *rows_of("act_first", [True], 10.0, settled=(5.0, True))]
    found = compare(rows, "act_first", "ar")
    assert found["speedup_mean"]["value"] == pytest.approx(3.0)
    assert found["speedup_compute"]["value"] == pytest.approx(2.0)


def test_whole_episodes_are_compared_with_their_steps_and_checks_in_motion():
    """A quick mode that wanders for twice as many steps saves less than its steps do."""
    base = rows_of("ar", [True, True], 30.0)
    wandering = rows_of("heisd", [True, True], 10.0, settled=(5.0, True))
    for row in wandering:
        row["ms"], row["settled"] = row["ms"] * 2, row["settled"] * 2
        row["passes"] = row["passes"] * 2
    assert compare([*base, *wandering], "heisd", "ar")["speedup_episode"]["value"] == 1.0


def test_equal_episodes_are_counted():
    rows = [*rows_of("ar", [True] * 3, 20.0), *rows_of("exact", [True] * 2, 10.0)]
    rows += rows_of("relaxed", [True] * 3, 10.0, tokens=(5,) * 6 + (6,))
    assert compare(rows, "exact", "ar")["identical"] == 2
    assert compare(rows, "relaxed", "ar")["identical"] == 0


def test_only_episodes_that_both_ran_are_compared():
    rows = [*rows_of("ar", [True] * 3, 20.0), *rows_of("heisd", [True] * 2, 10.0)]
    assert [(m["task_index"], b["task_index"]) for m, b in pairs_of(rows, "heisd", "ar")] == [
        (0, 0),
        (1, 1),
    ]
    assert compare(rows, "heisd", "spec_vla") is None


def chunked(mode, ms, each=4):
    """Episodes of a model of chunks: most actions are later ones of an answer."""
    later = StepResult(
        action=np.zeros(7), tokens=(), source="autoregressive", reason="action 2 of a chunk of 4",
        timings_ms={"total": 0.0}, passes=0,
    )  # fmt: skip
    records = [step(ms=ms), *[StepRecord(later, *vars_of(step())) for _ in range(each - 1)]] * 5
    return [episode_row(mode, episode(records, task_index=task)) for task in range(3)]


def vars_of(record):
    """What a record has beside its result."""
    return [getattr(record, field.name) for field in fields(record)[1:]]


@pytest.mark.parametrize("listed", [True, False])
def test_answers_are_compared_and_not_the_later_actions_of_chunks(listed):
    rows = [*chunked("ar", 30.0), *chunked("dsd", 10.0)]
    for row in rows:
        assert row["answers"] == [0, 4, 8, 12, 16]
        row["ms"] = [ms if i % 4 == 0 else 0.0 for i, ms in enumerate(row["ms"])]
        if not listed:  # as files were written before
            del row["answers"]
    found = compare(rows, "dsd", "ar")
    assert found["speedup_median"]["value"] == found["speedup_mean"]["value"] == 3.0
    own = [row for row in rows if row["mode"] == "dsd"]
    assert summarise(own)["step_ms"]["p50"] == 10.0
    assert summarise(own)["compute_ms"] == 2.5

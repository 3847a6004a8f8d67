import pytest
from support.evaluations import episode, step

from heisd_ros.evaluation.accounting import episode_row
from heisd_ros.evaluation.compare import compare, pairs_of


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

"""Outcomes task by task, and the guard over the results that come with the package."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.evaluation.by_task import by_task
from heisd_ros.evaluation.report_tables import tasks_table
from heisd_ros.evaluation.results import BASE_MODE, read_results

RESULTS = Path(__file__).parents[2] / "bench" / "results"
RUNS = ("modes_two_cores", "modes_libero_spatial", "modes_seed_1")
SAFE = ("heisd", "heisd_exact", "heisd_act_first", "speed_switch")
"""Modes that must lose no task; the others are baselines."""


def rows_of(mode, task, successes):
    return [
        {"mode": mode, "task_index": task, "init_state": state, "success": success}
        for state, success in enumerate(successes)
    ]


def made_up(lost, won=0, pairs=10):
    """Two tasks: one is solved by both modes, of the other some states by one alone."""
    same = [True] * (pairs - lost - won)
    return [
        *rows_of("ar", 0, [True] * pairs),
        *rows_of("ours", 0, [True] * pairs),
        *rows_of("ar", 1, [True] * lost + [False] * won + same),
        *rows_of("ours", 1, [False] * lost + [True] * won + same),
    ]


def test_pairs_are_counted_by_task_and_over_all():
    first, second, every = by_task(made_up(3, 1), "ours", "ar")
    assert (first.task, second.task, every.task) == (0, 1, None)
    assert (first.won, first.lost, first.difference) == (0, 0, (0.0, 0.0, 0.0))
    assert (second.successes, second.base_successes) == (7, 9)
    assert (second.won, second.lost, every.won, every.lost, every.pairs) == (1, 3, 1, 3, 20)
    assert every.difference.value == pytest.approx(-0.1)
    for found in (second, every):
        assert found.difference.low < found.difference.value < found.difference.high
    assert by_task(made_up(1), "ours", "dsd") == []


@pytest.mark.parametrize(
    ("lost", "won", "collapsed"), [(5, 0, True), (7, 1, True), (4, 0, False), (6, 2, False)]
)
def test_a_task_collapses_where_half_of_it_is_lost_and_hardly_by_chance(lost, won, collapsed):
    outcomes = by_task(made_up(lost, won), "ours", "ar")
    assert [found.collapsed for found in outcomes[:2]] == [False, collapsed]
    assert ("LOST" in tasks_table({"ours": outcomes}, "ar", "ours").split("</p>")[1]) == collapsed


@pytest.mark.parametrize("name", RUNS)
def test_the_task_that_a_mean_hid_is_found(name):
    """Runs of settings that are no longer shipped: 13% failed over all tasks, 70% of task 6."""
    data = read_results(RESULTS / f"{name}.json")
    *tasks, every = by_task(data["episodes"], "heisd", BASE_MODE)
    assert [found.task for found in tasks if found.collapsed] == [6]
    assert not every.collapsed


def results():
    """Name and content of every file of `heisd eval`; others lie beside them."""
    for path in sorted(RESULTS.glob("*.json")):
        with contextlib.suppress(ValueError):
            yield path.stem, read_results(path)


def test_no_shipped_mode_loses_a_task_in_the_results_of_its_settings():
    judged = set()
    for name, data in results():
        for mode in set(SAFE) & set(data["modes"]):
            ran = ModeSettings.from_dict(data["modes"][mode]["settings"])
            if ran.decisive() != load_mode(mode).decisive():
                continue  # what was measured is not what is shipped
            lost = [f.task for f in by_task(data["episodes"], mode, BASE_MODE) if f.collapsed]
            assert not lost, f"{name}: {mode} loses the tasks {lost}"
            judged.add(mode)
    assert {"heisd", "heisd_exact"} <= judged, "no results of what is shipped"

"""The walk along run lengths, with outcomes made up."""

from __future__ import annotations

import numpy as np
import pytest
from support.skipping import calibration

from heisd_ros.errors import CalibrationError
from heisd_ros.evaluation.calibration_episodes import EpisodeLoss
from heisd_ros.evaluation.calibration_losses import BASE
from heisd_ros.evaluation.paired_run import BLOCK, FILE, PairedRun, least_pairs
from heisd_ros.evaluation.starts import calibration_starts

PAIRS, RUNS, TASKS = 200, (1, 2, 5), {0: "lift", 1: "push"}
PLAN = calibration_starts(list(TASKS), PAIRS, seed=1)


def candidate(**changes):
    count = len(changes.get("runs", RUNS))
    values = {
        "similarity": (0.8,) * count,
        "dispersion": (50.0,) * count,
        "runs": RUNS,
        "chosen": None,
        "tried": (),
        "criterion": "excess",
        "risk": 0.05,
        "max_consecutive": 10,
        "episodes": PAIRS,
        "created": "",
    }
    return calibration(**(values | changes))


def start(folder, written=False, **changes):
    """A walk; it is written to its file only where that is what is tested, since it takes long."""
    run = PairedRun(candidate(**changes), folder / FILE, {"draw": 1})
    if not written:
        table = run._losses
        table.add = lambda setting, number, loss: table._losses[setting].update({number: loss})
    return run


def walk(run, succeeds, most=10**6):
    """Runs what is pending, at most so many episodes, the last of a block first.

    Args:
        succeeds: by setting and number, whether the task is solved.
    """
    ran = []
    while pending := run.pending():
        for setting, number in reversed(pending):
            if len(ran) == most:
                return ran
            run.add(setting, number, EpisodeLoss(10, 4, 80, 100, succeeds(setting, number)))
            ran.append((setting, number))
    return ran


def always(setting, number):
    return True


def test_a_mode_without_an_excess_walks_to_the_end_and_saves_pairs_on_the_way(tmp_path):
    run = start(tmp_path)
    ran = walk(run, always)
    found = run.result(PLAN, TASKS)
    assert found.chosen == 2 and found.longest_run(found.chosen, 100) == 5
    early = -(-least_pairs(0.05, 0.1) // BLOCK) * BLOCK
    assert [row.episodes for row in found.tried] == [early, early, PAIRS]
    assert [setting for setting, _ in ran].count(BASE) == PAIRS, "one plain episode a start"
    assert len(set(ran)) == len(ran)
    assert found.tasks == {"lift": 0.0, "push": 0.0}
    assert len(found.starts) == PAIRS and found.created.endswith("+00:00")


def test_the_first_length_that_is_not_shown_ends_the_walk(tmp_path):
    run = start(tmp_path)
    ran = walk(run, lambda setting, number: setting != 1 or number % 4 > 0)
    found = run.result(PLAN, TASKS)
    assert found.chosen == 0 and [row.episodes for row in found.tried] == [PAIRS, PAIRS]
    assert found.tried[1].lost == PAIRS // 4 and found.tried[1].won == 0
    assert found.tried[1].loss == pytest.approx(0.25) and found.tried[1].bound > 0.05
    assert found.tried[0].bound < 0.05
    assert not [1 for setting, _ in ran if setting == 2]


def test_where_the_first_is_not_shown_nothing_is_skipped(tmp_path):
    run = start(tmp_path)
    walk(run, lambda setting, number: setting == BASE)
    found = run.result(PLAN, TASKS)
    assert found.chosen is None and found.tasks == {}
    assert "nothing is skipped" in found.guarantee


def test_a_pair_that_both_fail_is_no_difference(tmp_path):
    run = start(tmp_path)
    walk(run, lambda setting, number: number % 2 == 0)
    assert run.result(PLAN, TASKS).chosen == 2


def test_each_task_has_a_gate_of_its_own(tmp_path):
    """A task that loses is not skipped in, even where the mean over tasks was shown."""
    hurt = [n for n, place in enumerate(PLAN) if place.task_index == 1][:8]
    run = start(tmp_path, episodes=PAIRS, runs=(2,))
    walk(run, lambda setting, number: setting == BASE or number not in hurt[::2])
    found = run.result(PLAN, TASKS)
    assert found.chosen == 0 and found.tasks["push"] > 0.0 == found.tasks["lift"]
    strict = candidate(runs=(2,), chosen=0, tasks={"lift": 0.0, "push": 0.06})
    assert strict.allows("lift") and not strict.allows("push") and not strict.allows("pour")


@pytest.mark.parametrize("most", [0, 7, 80, 333])
def test_a_run_that_was_stopped_is_resumed(tmp_path, most):
    before = walk(start(tmp_path, written=True), always, most)
    run = start(tmp_path)
    after = walk(run, always)
    assert len(before) == most and not set(before) & set(after)
    assert run.result(PLAN, TASKS).chosen == 2


def test_pairs_count_in_the_order_of_the_draw_alone(tmp_path):
    """Pairs that happen to be done, before others of their block are, show nothing yet."""
    run = start(tmp_path)
    for number in range(1, PAIRS):
        for setting in (BASE, 0):
            run.add(setting, number, EpisodeLoss(0, 0, 1, 1, True))
    assert run.pending() == [(BASE, 0), (0, 0)]
    with pytest.raises(CalibrationError, match="still to be run"):
        run.result(PLAN, TASKS)


def test_how_often_a_length_at_the_margin_is_chosen(tmp_path_factory):
    """Over the whole path and the blocks: no oftener than delta."""
    rng, trials, wrong = np.random.default_rng(0), 60, 0
    for _ in range(trials):
        run = start(tmp_path_factory.mktemp("run"), runs=(1, 2))
        table = rng.random((2, PAIRS)) >= 0.05
        walk(run, lambda setting, number, t=table: setting == BASE or bool(t[setting][number]))
        wrong += run.result(PLAN, TASKS).chosen is not None
    assert wrong / trials <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / trials)


def test_another_path_or_too_few_pairs_are_refused(tmp_path):
    walk(start(tmp_path, written=True), always, most=1)
    with pytest.raises(CalibrationError, match=r"another .*runs; delete it|another .*runs"):
        start(tmp_path, runs=(1, 2, 3))
    with pytest.raises(CalibrationError, match=r"67 pairs cannot show .* 5\.0%; at least 68"):
        start(tmp_path, episodes=67)

"""`heisd demos`: what it refuses, its rounds, and a bar that counts episodes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from rich.progress import Progress
from support.fake_scene import KinematicScene
from support.recording import record_lines
from support.tiny_vla import save_tiny_checkpoint
from typer.testing import CliRunner

from heisd_ros.cli import demos
from heisd_ros.errors import CheckpointError, SceneError


class Bar(Progress):
    """A progress bar that keeps what it was told."""

    shown = ()

    def __init__(self, *columns):
        super().__init__(*columns, disable=True)
        Bar.shown = []

    def add_task(self, description, total):
        Bar.label, Bar.total = description, total
        return super().add_task(description, total=total)

    def update(self, task, completed):
        Bar.shown.append(completed)
        super().update(task, completed=completed)


@pytest.fixture
def bar(monkeypatch):
    monkeypatch.setattr(demos, "Progress", Bar)
    return Bar


def lines(path):
    return path.read_text().splitlines()


def test_the_bar_counts_episodes_up_to_all_of_them(bar, tmp_path):
    demos.record_rounds(partial(record_lines, tmp_path), (0, 4), (2, 5), "suite", workers=2)
    assert (bar.label, bar.total) == ("suite", 10)
    assert bar.shown == sorted(bar.shown) and bar.shown[-1] == 10
    assert [len(lines(tmp_path / f"{task}.txt")) for task in (0, 4)] == [5, 5]


def test_no_task_goes_on_before_all_have_reached_the_round(bar, tmp_path):
    demos.record_rounds(partial(record_lines, tmp_path), (0, 1), (2, 4), "suite", workers=1)
    assert lines(tmp_path / "0.txt") == ["the others have []"] * 2 + ["the others have [2]"] * 2
    assert lines(tmp_path / "1.txt") == ["the others have [2]"] * 2 + ["the others have [4]"] * 2


def test_what_a_resumed_run_finds_is_counted_and_more_than_asked_is_not(bar, tmp_path):
    for task, found in ((0, 3), (1, 9)):
        (tmp_path / f"{task}.txt").write_text("\n".join(["before"] * found))
    demos.record_rounds(partial(record_lines, tmp_path), (0, 1), (5,), "suite", workers=1)
    assert (bar.total, bar.shown[-1]) == (10, 10)
    assert lines(tmp_path / "0.txt") == ["before"] * 3 + ["the others have [9]"] * 2
    assert lines(tmp_path / "1.txt") == ["before"] * 9


def test_a_task_that_fails_ends_the_run_by_name(bar, tmp_path):
    with pytest.raises(SceneError, match="task 9"):
        demos.record_rounds(partial(record_lines, tmp_path), (9, 0), (1, 2), "suite", workers=1)


def test_an_unknown_suite_is_refused(tmp_path):
    result = CliRunner().invoke(demos.app, [str(tmp_path), "--suite", "libero_mars"])
    assert result.exit_code == 2
    assert "libero_mars" in result.output and "libero_spatial" in result.output


def test_options_reach_the_recording(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(demos, "record_rounds", lambda *arguments: calls.append(arguments))
    options = ["--suite", "libero_goal", "--episodes", "25", "--stride", "3", "--lead", "model"]
    options += ["--first-seed", "40"]
    runner = CliRunner()
    assert runner.invoke(demos.app, [str(tmp_path), *options, "--workers", "1"]).exit_code == 0
    assert (
        runner.invoke(demos.app, [str(tmp_path), "--episodes", "10", "--task", "7"]).exit_code == 0
    )
    (collect, tasks, rounds, label, workers), (_, some, few, *_) = calls
    assert collect.args == ("libero_goal", tmp_path, 40, 3, "model")
    assert collect.keywords == {"until_stall": False}
    assert runner.invoke(demos.app, [str(tmp_path), *options, "--until-stall"]).exit_code == 0
    assert calls[-1][0].keywords == {"until_stall": True}
    lonely = runner.invoke(demos.app, [str(tmp_path), "--until-stall"])
    assert lonely.exit_code == 2 and "name a checkpoint" in lonely.output
    assert (tasks, rounds, label, workers) == ([1, 2, 4, 6, 8], [10, 20, 25], "libero_goal", 1)
    assert (some, few) == ([7], [10])


class Scene(KinematicScene):
    """The fake scene with the opening that a model's proprioception has."""

    def gripper_opening(self):
        return 0.04


def test_a_checkpoint_leads_by_its_own_actions(tmp_path):
    policy = demos._lead_policy(str(save_tiny_checkpoint(tmp_path / "model")))
    scene = Scene()
    action = policy(scene)
    assert action.shape == (7,) and np.isfinite(action).all()
    np.testing.assert_array_equal(policy(scene), action)


def test_a_lead_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        demos._lead_policy(str(tmp_path / "nowhere"))

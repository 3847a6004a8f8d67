"""`heisd eval` with a tiny model and a scene without MuJoCo, in this process."""

from __future__ import annotations

import json
from dataclasses import astuple

import pytest
from support.evaluations import FiledScene
from support.tiny_parts import save_tiny_parts
from support.tiny_vla import save_tiny_checkpoint
from support.tree import ROOT
from typer.testing import CliRunner

from heisd_ros.cli import eval as evaluation
from heisd_ros.cli.main import app
from heisd_ros.errors import ClusterError
from heisd_ros.evaluation.accounting import start_of
from heisd_ros.evaluation.starts import evaluation_starts

REFERENCE = ROOT / "test" / "data" / "openvla_reference"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model"))


def scene_of(**options):
    """Makes such scenes; how a real one would be drawn doesn't matter to them."""
    return lambda suite, task, size, **drawn: FiledScene(suite, task, **options)


@pytest.fixture
def ran(monkeypatch):
    """The jobs that were run; instead of in workers they run here."""
    jobs_run = []

    def run_here(function, jobs, label, workers=0):
        for job in jobs:
            jobs_run.append(astuple(job[1])[:2])
            yield function(*job)

    monkeypatch.setattr(evaluation, "run_jobs", run_here)
    monkeypatch.setattr("heisd_ros.evaluation.rollout.LiberoScene", scene_of())
    return jobs_run


@pytest.fixture
def call(checkpoint, ran):
    """Runs the command on two tasks."""

    def call_with(*arguments):
        fixed = ["eval", "--model", str(checkpoint), "--task", "0", "--task", "1"]
        return CliRunner().invoke(app, [*fixed, *map(str, arguments)], env={"COLUMNS": "200"})

    return call_with


def own_mode(folder, name="again"):
    path = folder / f"{name}.yaml"
    path.write_text("description: the same once more\npropose: none\n")
    return path


def test_a_cluster_runs_the_same_jobs_and_its_results_are_resumed(call, ran, monkeypatch, tmp_path):
    asked, path = [], tmp_path / "eval.json"

    def run_there(address, function, jobs, label, gpus_each):
        asked.append((address, len(jobs)))
        for job in jobs[:3]:
            yield function(*job)
        if len(jobs) > 3:
            raise ClusterError("gone")

    monkeypatch.setattr(evaluation, "run_jobs_on_ray", run_there)
    arguments = ["--episodes", 2, "--ray", "head:6379", "--json", path]
    result = call(*arguments)
    assert result.exit_code == 2 and "gone" in result.output and not ran
    assert call(*arguments).exit_code == 0
    assert asked == [("head:6379", 4), ("head:6379", 1)]
    assert json.loads(path.read_text())["modes"]["ar"]["episodes"] == 4


def test_the_plain_mode_is_the_default(call, ran, tmp_path):
    path = tmp_path / "out" / "eval.json"
    result = call("--episodes", 2, "--json", path)
    assert result.exit_code == 0, result.output
    assert ran == [(0, 40), (1, 40), (0, 41), (1, 41)]
    data = json.loads(path.read_text())
    assert list(data["modes"]) == ["ar"]
    assert (data["modes"]["ar"]["episodes"], data["modes"]["ar"]["successes"]) == (4, 4)
    assert data["modes"]["ar"]["steps"] == 16 and data["modes"]["ar"]["passes_per_step"] == 7.0
    assert "task" in result.output and "4/4" in result.output


def test_modes_run_side_by_side_and_are_compared(call, tmp_path):
    path = tmp_path / "eval.json"
    result = call("--modes", f"ar,{own_mode(tmp_path)}", "--episodes", 1, "--json", path)
    assert result.exit_code == 0, result.output
    data = json.loads(path.read_text())
    assert [row["mode"] for row in data["episodes"][:2]] in (["ar", "again"], ["again", "ar"])
    versus = data["modes"]["again"]["versus"]
    assert versus["pairs"] == versus["identical"] == 2
    assert versus["only_mode"] == versus["only_base"] == 0
    assert "speedup" in result.output


def test_drafts_of_all_kinds_leave_the_tokens_as_they_are(monkeypatch, ran, tmp_path):
    """Retrieval, drafter and metric in one loop; with exact acceptance nothing may change."""
    checkpoint = save_tiny_checkpoint(tmp_path / "model")
    save_tiny_parts(checkpoint)
    monkeypatch.setattr("heisd_ros.evaluation.rollout.LiberoScene", scene_of(goal_steps=24))
    path = tmp_path / "eval.json"
    fixed = ["eval", "--model", str(checkpoint), "--task", "0", "--episodes", "2"]
    hybrid = tmp_path / "hybrid.yaml"
    hybrid.write_text(
        "propose: hybrid\nredraft: true\nretrieval: {accept: exact}\n"
        "drafter: {accept: exact, last: true}\n"
    )
    modes = f"ar,{hybrid},heisd_exact,retrieval_only,last_command"
    result = CliRunner().invoke(app, [*fixed, "--modes", modes, "--json", str(path)])
    assert result.exit_code == 0, result.output
    data = json.loads(path.read_text())
    exact, retrieval = data["modes"]["hybrid"], data["modes"]["retrieval_only"]
    alone = data["modes"]["last_command"]
    assert alone["sources"]["last_command"] > 0.9 and alone["sources"]["retrieval"] == 0.0
    for lossless in (exact, data["modes"]["heisd_exact"], alone):
        assert lossless["versus"]["identical"] == lossless["versus"]["pairs"] == 2
    assert exact["sources"]["drafter"] > 0 and exact["sources"]["retrieval"] > 0
    assert exact["skip_rate"] == 0.0 and exact["acceptance_length"] is not None
    assert (retrieval["skip_rate"], retrieval["passes_per_step"]) == (1.0, 0.0)
    assert exact["boundary"] == {"metric": "paper", "value": 0.3, "hysteresis": 0.03}
    assert data["database"] and data["drafter"] and data["calibration"] is None
    assert exact["parts_ms"]["metric"] > 0 and "metric" not in retrieval["parts_ms"]


def test_a_run_goes_on_with_what_is_missing(call, ran, tmp_path):
    path = tmp_path / "eval.json"
    call("--episodes", 1, "--json", path)
    ran.clear()
    assert call("--episodes", 2, "--json", path).exit_code == 0
    assert ran == [(0, 41), (1, 41)]
    assert json.loads(path.read_text())["modes"]["ar"]["episodes"] == 4


def test_starts_are_drawn_by_a_seed_and_each_is_listed(call, ran, tmp_path):
    path = tmp_path / "eval.json"
    modes = f"ar,{own_mode(tmp_path)}"
    assert call("--draw", 7, "--episodes", 12, "--modes", modes, "--json", path).exit_code == 0
    assert ran[:2] == [(0, 40), (1, 40)] and len(ran) == 24, "more than the protocol has states"
    data = json.loads(path.read_text())
    starts = evaluation_starts([0, 1], range(40, 50), 12, seed=7)
    for mode in data["modes"]:
        rows = [row for row in data["episodes"] if row["mode"] == mode]
        assert [start_of(row) for row in rows] == [astuple(start) for start in starts]
    assert data["draw"] == 7 and data["modes"]["again"]["versus"]["pairs"] == 24
    ran.clear()
    call("--draw", 7, "--episodes", 13, "--modes", modes, "--json", path)
    assert len(ran) == 2, "a longer run begins with the same starts"
    result = call("--draw", 8, "--episodes", 12, "--modes", modes, "--json", path)
    assert result.exit_code == 2 and "draw 7" in result.output


def test_another_experiment_in_the_file_is_refused(call, ran, tmp_path):
    path = tmp_path / "eval.json"
    call("--episodes", 1, "--json", path)
    ran.clear()
    for changed in (["--seed", 1], ["--max-steps", 2], ["--modes", f"ar,{own_mode(tmp_path)}"]):
        result = call("--episodes", 1, "--json", path, *changed)
        assert result.exit_code == 2 and "new" in result.output
    assert ran == []


def test_episodes_can_be_cut_short(call, tmp_path):
    path = tmp_path / "eval.json"
    assert call("--episodes", 1, "--max-steps", 2, "--json", path).exit_code == 0
    data = json.loads(path.read_text())
    assert data["max_steps"] == 2
    assert (data["modes"]["ar"]["successes"], data["modes"]["ar"]["steps"]) == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modes", "ar,warp"], "unknown mode 'warp'"),
        (["--modes", "ar,ar"], "each name once"),
        (["--modes", "rsd"], "heisd db build"),
        (["--modes", ","], "at least one"),
    ],
)
def test_what_cannot_run_is_refused_at_once(call, ran, arguments, message):
    result = call(*arguments)
    assert result.exit_code == 2 and message in " ".join(result.output.split())
    assert ran == []


def test_a_checkpoint_of_openvla_s_is_run_as_openvla_does(ran, tmp_path):
    """A tiny one, of the published layout: another view, other states, other limits."""
    options = ["--model", str(REFERENCE), "--unnorm-key", "bridge_orig", "--task", "3"]
    path = tmp_path / "eval.json"
    few = ["--episodes", "2", "--max-steps", "2", "--json", str(path)]
    result = CliRunner().invoke(app, ["eval", *options, *few], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert ran == [(3, 0), (3, 1)]
    data = json.loads(path.read_text())
    assert data["protocol"]["name"] == "openvla_libero"
    assert data["protocol"]["data"]["images"]["crop_area"] == 0.9
    assert [row["steps"] for row in data["episodes"]] == [2, 2]


def test_a_suite_without_statistics_is_refused(ran):
    result = CliRunner().invoke(app, ["eval", "--model", str(REFERENCE)], env={"COLUMNS": "300"})
    assert result.exit_code != 0 and not ran
    assert "no statistics 'libero_spatial' or 'libero_spatial_no_noops'" in result.output


def test_more_episodes_than_the_protocol_has_are_refused(call, ran):
    result = call("--episodes", 11)
    assert result.exit_code == 2 and "11 episodes of a task; up to 10" in result.output and not ran

"""One small round of corrections in real scenes, by the package's own commands."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from support.tiny_vla import save_tiny_checkpoint
from support.tree import ROOT
from typer.testing import CliRunner

from heisd_ros.cli import demos, eval
from heisd_ros.cli.main import app
from heisd_ros.sim import demonstrations
from heisd_ros.sim.scene import OPEN_GRIPPER

TASK = 2
INSTRUCTION = "pick up the black bowl from table center and place it on the plate"


@pytest.fixture
def corrections():
    spec = importlib.util.spec_from_file_location("corrections", ROOT / "bench/corrections.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def starts(*successes, task=5):
    return {(task, 40, n): success for n, success in enumerate(successes)}


def test_the_same_starts_are_compared(corrections):
    before = starts(True, True, False, False, False, False, False, False, False, False)
    after = starts(True, False, True, True, True, True, True, True, True, False)
    found = corrections.paired(before, after)
    assert (found["starts"], found["before"], found["after"]) == (10, 2, 8)
    assert (found["won"], found["lost"]) == (7, 1)
    assert found["by_chance"] == pytest.approx(2 * (1 + 8) / 2**8, abs=1e-4)
    assert found["difference"][0] == 0.6 and found["difference"][1] > 0.0
    assert corrections.paired(before, before)["by_chance"] == 1.0
    with pytest.raises(ValueError, match="the same are needed"):
        corrections.paired(before, starts(True))


def in_this_process(function, jobs, label, workers=0):
    return (function(*job) for job in jobs)


def collected_here(collect, tasks, rounds, label, workers=0):
    for task in tasks:
        collect(task, rounds[-1], lambda count: None)


def still(scene):
    return np.array([0, 0, 0, 0, 0, 0, OPEN_GRIPPER])


@pytest.mark.slow
def test_a_policy_that_stalls_is_corrected_trained_and_compared(corrections, tmp_path, monkeypatch):
    pytest.importorskip("libero")
    monkeypatch.setattr(eval, "run_jobs", in_this_process)
    monkeypatch.setattr(demos, "record_rounds", collected_here)
    monkeypatch.setattr(demos, "_lead_policy", lambda checkpoint: still)
    monkeypatch.setattr(demonstrations, "choose_grasp", lambda scene: 0)
    ran = []

    def run(command):
        ran.append(command)
        result = CliRunner().invoke(app, corrections.words(command))
        assert result.exit_code == 0, result.output

    monkeypatch.setattr(corrections, "run", run)
    model = save_tiny_checkpoint(tmp_path / "model", instructions=(INSTRUCTION,))
    folder, results = tmp_path / "round", tmp_path / "results.json"
    short = f"--task {TASK} --tasks {TASK} --led 1 --plain 1 --stride 20 --steps 10 --batch-size 2"
    short += " --starts 1 --max-steps 2"
    arguments = [str(folder), "--json", str(results), "--model", str(model), *short.split()]
    corrections.main(arguments)
    found = json.loads(results.read_text())
    assert [found["corrected_task"][name] for name in ("task", "starts", "after")] == [TASK, 1, 0]
    assert found["other_tasks"]["starts"] == 0 and [*found["by_task"]] == [str(TASK)]
    corrected, plain = found["recorded"]["corrected"], found["recorded"]["plain"]
    assert (corrected["episodes"], corrected["corrected"]) == (1, 1)
    assert 0 < corrected["person_frames"] < corrected["frames"]
    assert (plain["episodes"], plain["person_frames"]) == (1, 0)
    assert found["losses"][-1][0] == 10
    assert (folder / "run" / "checkpoint" / "model.safetensors").is_file()
    # A round that was stopped runs only what is left; one of other settings is refused.
    results.write_text(json.dumps(found | {"ran": found["ran"][:-1]}))
    left = []
    monkeypatch.setattr(corrections, "run", left.append)
    corrections.main(arguments)
    assert left == ran[-1:]
    with pytest.raises(SystemExit, match="name another folder and file"):
        corrections.main([*arguments, "--draw", "24"])

"""The shipped model drives the simulated arm over DDS, as `make demo` shows it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.workers import next_domain_id

from heisd_ros.models import shipped_model

pytest.importorskip("libero", reason="LIBERO is not installed")


def run_demo(folder, *arguments):
    """Returns the finished process and the episodes of its report."""
    report = folder / "demo.json"
    command = [sys.executable, "-m", "heisd_ros.cli.main", "demo", *arguments]
    command += ["--domain-id", str(next_domain_id())]
    run = subprocess.run(
        [*command, "--output", str(folder), "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    return run, json.loads(report.read_text())["episodes"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ar", "heisd"])
def test_the_demo_succeeds_in_lock_step(tmp_path, mode):
    # The first was solved in every recorded run, in 61 to 65 steps; one of two is enough.
    for task in ("0", "3"):
        run, [episode] = run_demo(tmp_path, "--mode", mode, "--task", task)
        assert run.returncode == (0 if episode["success"] else 1), run.stdout + run.stderr
        if episode["success"]:
            break
    assert episode["success"], run.stdout + run.stderr
    assert 20 < episode["steps"] < 220
    assert set(episode["latency_ms"]) >= {"vision", "prefill", "decode", "total"}
    drafted = {"skip", "retrieval", "last_command", "drafter"}
    assert set(episode["sources"]) == ({"autoregressive"} if mode == "ar" else drafted)
    assert (tmp_path / "episode_1.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_demo_runs_in_real_time_however_slowly_it_renders(tmp_path):
    run, [episode] = run_demo(
        tmp_path, "--mode", "heisd", "--task", "1", "--real-time", "--max-steps", "30"
    )
    assert episode["steps"] >= 30, run.stdout + run.stderr
    assert not episode["holds"], "a slow machine is no fault of the arm"
    assert sum(episode["sources"].values()) == episode["steps"]
    assert episode["rates_hz"]["command"] > 0.0


def test_the_shipped_model_is_small_enough_and_described():
    folder = shipped_model()
    assert (folder / "model.safetensors").stat().st_size <= 32 * 2**20
    card = (folder / "MODEL_CARD.md").read_text()
    for part in ("Data", "Settings", "Results", "Limits"):
        assert f"## {part}" in card

"""Two episodes of three modes in real LIBERO scenes and a worker process, with a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.tiny_parts import save_tiny_parts
from support.tiny_vla import save_tiny_checkpoint

from heisd_ros.evaluation.evaluation_page import write_report
from heisd_ros.evaluation.results import read_results

# Task 0 of libero_spatial, as LIBERO words it; several tasks and workers are run on a fake scene.
INSTRUCTION = "pick up the black bowl between the plate and the ramekin and place it on the plate"


@pytest.mark.slow
def test_a_small_evaluation_from_command_to_page(tmp_path):
    checkpoint = save_tiny_checkpoint(tmp_path / "model", instructions=(INSTRUCTION,))
    save_tiny_parts(checkpoint)
    path = tmp_path / "eval.json"
    command = f"eval --model {checkpoint} --modes ar,heisd_exact,retrieval_only --task 0"
    command += f" --episodes 2 --max-steps 6 --workers 1 --json {path}"
    result = subprocess.run(
        [sys.executable, "-m", "heisd_ros.cli.main", *command.split()],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr + result.stdout
    data = read_results(path)
    assert {row["init_state"] for row in data["episodes"]} == {40, 41}
    assert [mode["steps"] for mode in data["modes"].values()] == [12] * 3
    versus = data["modes"]["heisd_exact"]["versus"]
    assert versus["identical"] == versus["pairs"] == 2
    assert data["modes"]["retrieval_only"]["skip_rate"] == 1.0
    assert data["modes"]["ar"]["jerk"] > 0
    assert str(tmp_path) not in json.dumps(data)
    write_report({path.name: data}, tmp_path / "report.html")
    assert "End-effector path by source" in (tmp_path / "report.html").read_text()

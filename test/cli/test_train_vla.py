"""`heisd train vla` learns from bags and HDF5 files alike, by their marks."""

from __future__ import annotations

import numpy as np
import pytest
from support.bags import write_bag
from support.cell_bags import CAMERAS, JOINTS, ended, held_by, recording
from support.episodes import episode
from support.tiny_vla import save_tiny_checkpoint
from typer.testing import CliRunner

from heisd_ros.cli.train import app
from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.families.openvla.checkpoint import load_checkpoint

PARAMS = f"""\
/**:
  ros__parameters:
    instruction: pick up the bowl
    recording.images: {list(CAMERAS)}
    recording.joint_states: {JOINTS}
    recording.telemetry: /telemetry
    recording.outcome: /outcome
"""


@pytest.fixture
def run(tmp_path):
    """Calls the command on a corrected bag, an HDF5 file of a success, and a tiny model."""
    model = save_tiny_checkpoint(tmp_path / "model")
    writer = LiberoWriter(tmp_path / "demos" / "bowl_demo.hdf5", "pick up the bowl", "", {})
    writer.add(episode(3, outcome="success"), 0, np.zeros((3, 4)), "")
    who = [held_by(n / 20, "person" if n >= 15 else "policy") for n in range(40)]
    write_bag(tmp_path / "bags" / "one", recording(extra=[*who, ended(1.9, "failure")]))
    (tmp_path / "cell.yaml").write_text(PARAMS)

    def call(*arguments, of=("demos", "bags")):
        paths = [str(tmp_path / name) for name in (*of, "run")]
        options = ["--start-from", str(model), "--steps", "10", "--batch-size", "2"]
        return CliRunner().invoke(app, ["vla", *paths, *options, *map(str, arguments)])

    return call


def test_bags_and_files_are_learned_from_together(run, tmp_path):
    result = run("--params", tmp_path / "cell.yaml", "--policy-weight", "0", "--only", "corrected")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "episode that is not marked as corrected" in said  # the file's
    assert "samples of 1 instructions" in said
    load_checkpoint(tmp_path / "run" / "checkpoint")
    assert (tmp_path / "run" / "checkpoint" / "metric_bounds.json").is_file()


def test_what_is_wrong_is_said_without_a_traceback(run, tmp_path):
    (tmp_path / "empty").mkdir()
    params = ("--params", tmp_path / "cell.yaml")
    for arguments, of, message in (
        ((), ("bags",), "name the robot's YAML with --params"),
        (params, ("empty",), "holds nothing that can be read"),
        ((*params, "--only", "good"), ("bags",), "accepted: 'success' or 'corrected'"),
        ((*params, "--only", "success"), ("bags",), "no episode that is marked as success"),
    ):
        result = run(*arguments, of=of)
        assert result.exit_code == 2
        assert message in " ".join(result.output.replace("│", " ").split())

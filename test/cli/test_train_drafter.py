"""`heisd train drafter`, from recorded episodes to a drafter that loads."""

from __future__ import annotations

import numpy as np
import pytest
from support.episodes import episode
from support.tiny_vla import save_tiny_checkpoint
from typer.testing import CliRunner

from heisd_ros.cli.train import app
from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.vla.checkpoint_files import fingerprint
from heisd_ros.vla.drafter import load_drafter


@pytest.fixture
def run(tmp_path):
    """Calls the command on two recorded episodes and a tiny model."""
    model = save_tiny_checkpoint(tmp_path / "model")
    writer = LiberoWriter(tmp_path / "demos" / "bowl_demo.hdf5", "pick up the bowl", "", {})
    for state in (0, 9):
        writer.add(episode(3, seed=state, init_state=state), state, np.zeros((3, 4)), "")

    def call(*arguments, folder="demos"):
        paths = [str(tmp_path / folder), str(tmp_path / "run"), "--model", str(model)]
        return CliRunner().invoke(app, ["drafter", *paths, *arguments])

    return call


def test_a_drafter_is_trained_measured_and_saved(run, tmp_path):
    result = run("--steps", "2", "--batch-size", "2")
    assert result.exit_code == 0, result.output
    model = tmp_path / "model"
    load_drafter(tmp_path / "run" / "drafter", fingerprint(model), load_checkpoint(model))
    last = " ".join(result.output.split())
    assert "on 3 held-out frames the VLA accepts" in last
    assert "of 6 drafted tokens (greedy chain)" in last
    assert last.endswith("(tree of 50 nodes, top-k 8)")


def test_a_second_call_goes_on(run, tmp_path):
    run("--steps", "2")
    first = (tmp_path / "run" / "drafter" / "drafter.safetensors").read_bytes()
    assert run("--steps", "2").exit_code == 0
    assert (tmp_path / "run" / "drafter" / "drafter.safetensors").read_bytes() == first
    assert run("--steps", "4").exit_code == 0
    assert (tmp_path / "run" / "drafter" / "drafter.safetensors").read_bytes() != first


def test_what_is_wrong_is_said_without_a_traceback(run, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run(folder="empty")
    assert result.exit_code == 2
    assert "holds nothing that can be read" in " ".join(result.output.replace("│", " ").split())

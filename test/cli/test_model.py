"""`heisd model` as it is called."""

from __future__ import annotations

import json
import shutil

import pytest
from support.tree import ROOT
from typer.testing import CliRunner

from heisd_ros.cli.main import app
from heisd_ros.models import shipped_model

REFERENCE = ROOT / "test" / "data" / "openvla_reference"


def run(*words):
    return CliRunner().invoke(app, ["model", *map(str, words)], env={"COLUMNS": "160"})


def test_verify_prints_each_comparison_and_succeeds():
    result = run("verify", REFERENCE, REFERENCE, "--dtype", "float32")
    assert result.exit_code == 0, result.output
    for text in ("a_224", "prompt ids", "pixel values", "projector", "logits of the actions"):
        assert text in result.stdout
    assert "comparisons, all good (path plain, cpu, float32)" in result.stdout


@pytest.fixture
def altered(tmp_path):
    folder = shutil.copytree(REFERENCE, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["rms_norm_eps"] = 1e-4
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_verify_stops_at_the_first_failure_with_exit_code_1(altered):
    result = run("verify", altered, REFERENCE)
    assert result.exit_code == 1
    assert (
        "a_224: logits of the actions" in result.stderr and "accepted: <= 1.0e-04" in result.stderr
    )
    assert "projector" in result.stdout and "FAILED" in result.stdout
    assert "b_256" not in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("verify", "nowhere", REFERENCE), "no checkpoint folder nowhere"),
        (("verify", REFERENCE, "nowhere"), "is missing"),
        (("verify", REFERENCE, REFERENCE, "--path", "warp"), "no decoding path 'warp'"),
        (("info", "nowhere"), "no checkpoint folder nowhere"),
    ],
)
def test_bad_input_is_one_line_and_no_traceback(words, message):
    result = run(*words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_info_says_what_a_checkpoint_is():
    result = run("info", REFERENCE)
    assert result.exit_code == 0, result.output
    assert "4,614,713 that are run" in result.stdout
    assert "bridge_orig, tiny_nomask" in result.stdout and "adapter  none" in result.stdout
    assert "agentview, wrist" in run("info", shipped_model()).stdout


@pytest.mark.parametrize(
    ("family", "texts"),
    [
        ("pi0fast", ("655,680 that are run", "image, image2; 112 px", "10 actions of 7 numbers")),
        ("nora", ("2,556,848", "repetition penalty 1.05", "heisd.horizon", "at most 20 tokens")),
        ("ecot", ("2,216,473", "at most 1024 tokens", "bridge_orig")),
        ("openvla", ("1 action of 7 numbers, in 7 tokens", "heisd.control_rate_hz")),
    ],
)
def test_info_of_every_family(family, texts):
    result = run("info", REFERENCE.parent / f"{family}_reference")
    assert result.exit_code == 0, result.output
    assert f"family  {family}" in result.stdout
    for text in texts:
        assert text in result.stdout


def test_info_names_what_does_not_fit(altered):
    config = json.loads((altered / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (altered / "config.json").write_text(json.dumps(config))
    result = run("info", altered)
    assert result.exit_code == 2
    assert "missing language_model.model.layers.2" in " ".join(result.stderr.split())

"""LeRobot's normalisations, there and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from heisd_ros.errors import CheckpointError
from heisd_ros.families.pi0fast.normalisation import Normalisation, modes_of

NUMBERS = {
    "mean": [0.5, -1.0, 2.0],
    "std": [0.1, 2.0, 0.0],
    "min": [-1.0, 0.0, 2.0],
    "max": [1.0, 4.0, 2.0],
    "q01": [-0.5, 1.0, 2.0],
    "q99": [0.5, 3.0, 2.0],
    "q10": [0.0, 1.5, 2.0],
    "q90": [0.25, 2.5, 2.0],
}
STATE = np.array([0.3, 2.0, 2.0], np.float32)


@pytest.fixture
def pipeline(tmp_path):
    step = {"registry_name": "normalizer_processor", "config": {}, "state_file": "s.safetensors"}
    path = tmp_path / "policy_preprocessor.json"
    path.write_text(json.dumps({"steps": [step]}))
    tensors = {f"action.{key}": torch.tensor(value) for key, value in NUMBERS.items()}
    save_file(tensors, tmp_path / "s.safetensors")
    return path


def read(pipeline, mode, size=3, feature="action"):
    return Normalisation.read(pipeline, "normalizer_processor", feature, mode, size)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("IDENTITY", [0.3, 2.0, 2.0]),
        ("MEAN_STD", [-2.0, 1.5, 0.0]),
        ("MIN_MAX", [0.3, 0.0, -1.0]),
        ("QUANTILES", [0.6, 0.0, -1.0]),
        ("QUANTILE10", [1.4, 0.0, -1.0]),
    ],
)
def test_there_and_back(pipeline, mode, expected):
    """A range of no width divides by 1e-8, as in LeRobot, and comes back to where it was."""
    rule = read(pipeline, mode)
    normalised = rule.forward(STATE)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, expected, atol=1e-6)
    np.testing.assert_allclose(rule.inverse(normalised), STATE, atol=1e-6)


@pytest.mark.parametrize(("mode", "part"), [("MEAN_STD", "std"), ("QUANTILES", "q99")])
def test_statistics_that_would_turn_motion_round_are_refused(pipeline, mode, part):
    tensors = {f"action.{key}": torch.tensor(value) for key, value in NUMBERS.items()}
    tensors[f"action.{part}"][0] = -1.0
    save_file(tensors, pipeline.parent / "s.safetensors")
    with pytest.raises(CheckpointError, match=rf"action\.{part} are"):
        read(pipeline, mode)


def test_nothing_is_clipped(pipeline):
    assert read(pipeline, "QUANTILES").inverse([3.0, -3.0, 0.0])[0] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("mode", "size", "feature", "message"),
    [
        ("SQUARED", 3, "action", "mode 'SQUARED'"),
        ("MEAN_STD", 4, "action", "4 finite numbers"),
        ("MEAN_STD", 3, "observation.state", "has no observation.state.mean"),
    ],
)
def test_statistics_that_do_not_fit_are_named(pipeline, mode, size, feature, message):
    with pytest.raises(CheckpointError, match=message):
        read(pipeline, mode, size, feature)


@pytest.mark.parametrize("name", [None, "../s.safetensors", "missing.safetensors"])
def test_statistics_lie_in_the_folder(pipeline, name):
    step = {"registry_name": "normalizer_processor", "config": {}, "state_file": name}
    pipeline.write_text(json.dumps({"steps": [step]}))
    with pytest.raises(CheckpointError, match=r"state_file|is missing"):
        read(pipeline, "MEAN_STD")


def test_what_no_mapping_names_is_left_alone():
    assert modes_of({"STATE": "MEAN_STD"}, "ACTION") == "IDENTITY"

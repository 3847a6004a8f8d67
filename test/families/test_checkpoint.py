"""A folder's family is read from its config; what decides how it acts is in its fingerprint."""

from __future__ import annotations

import builtins
import shutil

import pytest
from support.tree import ROOT

from heisd_ros.errors import CheckpointError, EngineError, MissingPackageError
from heisd_ros.families.checkpoint import family_of, load_checkpoint
from heisd_ros.vla.checkpoint_files import fingerprint
from heisd_ros.vla.static_engine import StaticEngine

DATA = ROOT / "test" / "data"
CHANGED = {
    "pi0fast": (
        "config.json",
        "model.safetensors",
        "policy_preprocessor_step_3_normalizer_processor.safetensors",
        "tokenizer/tokenizer.json",
        "action_tokenizer/processor_config.json",
    ),
    "nora": ("norm_stats.json", "generation_config.json", "fast/tokenizer.json"),
    "ecot": ("tokenizer.json", "preprocessor_config.json", "generation_config.json"),
}


@pytest.mark.parametrize("name", ["openvla", *CHANGED])
def test_the_family_of_a_folder(name):
    assert family_of(DATA / f"{name}_reference") == name


def test_an_unknown_family_is_named_with_those_that_are_known(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "pi7"}')
    with pytest.raises(CheckpointError, match="'pi7'; known are openvla, pi0_fast, qwen2_5_vl"):
        family_of(tmp_path)


@pytest.mark.parametrize("name", CHANGED)
def test_every_file_that_is_read_counts(tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(DATA / f"{name}_reference", folder)
    seen = {fingerprint(folder)}
    (folder / "README.md").write_text("other")
    assert {fingerprint(folder)} == seen
    for count, file in enumerate(CHANGED[name], start=2):
        with (folder / file).open("ab") as stream:
            stream.write(b" ")
        seen.add(fingerprint(folder))
        assert len(seen) == count, file


def test_without_the_library(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name.startswith("heisd_ros.families.nora.checkpoint"):
            raise ModuleNotFoundError("No module named 'transformers'", name="transformers")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingPackageError, match=r"heisd_ros\[models\]"):
        load_checkpoint(DATA / "nora_reference")


@pytest.mark.parametrize("name", ["nora", "pi0fast"])
def test_a_family_with_one_engine_says_so(name):
    model = load_checkpoint(DATA / f"{name}_reference", "meta", any_statistics=True)
    assert model.with_engine("auto") is model and model.with_engine("plain") is model
    assert model.weight_bytes > 10**6
    with pytest.raises(EngineError, match="accepted: auto, plain"):
        model.with_engine("compiled")


def test_reasoning_by_another_engine():
    model = load_checkpoint(DATA / "ecot_reference")
    other = model.with_engine("static")
    assert isinstance(other.engine, StaticEngine) and not isinstance(model.engine, StaticEngine)
    assert model.with_engine("static") is other and other.model is model.model
    assert model.weight_bytes == 4 * 2_216_473

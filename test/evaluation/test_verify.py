"""`verify` on the upstream reference, and on one of other sizes by another implementation."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.second_reference import random_tensors, write_checkpoint, write_reference
from support.tree import ROOT

from heisd_ros.errors import ReferenceDataError
from heisd_ros.evaluation.verify import PATHS, verify

UPSTREAM = ROOT / "test" / "data" / "openvla_reference"


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Checkpoint and reference of other sizes, in two folders."""
    folder, tensors = tmp_path_factory.mktemp("second"), random_tensors()
    return write_checkpoint(folder / "model", tensors), write_reference(folder / "data", tensors)


def failures(rows):
    return [(row.case, row.stage, row.measured) for row in rows if row.passed is False]


QUICK = [path for path in PATHS if path != "compiled"]
"""Each case of a compiled path takes seconds to compile."""


@pytest.mark.parametrize("path", QUICK)
def test_upstream_s_outputs(path):
    rows = list(verify(UPSTREAM, UPSTREAM, path=path))
    assert not failures(rows)
    done = [(row.case, row.stage) for row in rows if row.passed]
    for case in ("a_224", "b_256", "c_480x640", "d_300x180"):
        for stage in ("prompt ids, empty token", "projector", "logits of the actions", "tokens"):
            assert (case, stage) in done
        assert (case, "tokens in bfloat16") in done
    assert ("c_480x640", "action, statistics 'tiny_nomask'") in done
    assert ("a_224", "another image's logits") in done


def test_upstream_s_outputs_from_compiled_passes():
    rows = list(verify(UPSTREAM, UPSTREAM, path="compiled", dtypes=("float32",)))
    assert not failures(rows)
    assert sum(row.stage == "tokens" and row.passed is True for row in rows) == 4


@pytest.mark.parametrize("path", QUICK)
def test_another_implementation_of_other_sizes(second, path):
    rows = list(verify(*second, path=path))
    assert not failures(rows)
    said = {(row.case, row.stage): row for row in rows}
    for stage in ("pixel values", "first tower (DINOv2)", "second tower (SigLIP)", "projector"):
        assert said["one", stage].passed and said["one__b", stage].passed is None
    assert (
        said["one", "logits of all ids"].passed and said["one__b", "logits of the actions"].passed
    )
    assert said["one", "action, statistics 'alpha'"].passed
    assert said["one", "action by formula, 2 statistics"].passed
    assert said["one", "tokens in bfloat16"].passed is None  # it has none


def tensor(name, change):
    def edit(folder):
        tensors = load_file(folder / "model.safetensors")
        tensors[name] = change(tensors[name]).contiguous()
        save_file(tensors, folder / "model.safetensors")

    return edit


def content(file, change):
    def edit(folder):
        data = json.loads((folder / file).read_text())
        change(data)
        (folder / file).write_text(json.dumps(data))

    return edit


def changed_row(weight):
    weight[29871] += 0.1
    return weight


LAYER = "language_model.model.layers.1.self_attn"


@pytest.mark.parametrize(
    ("edit", "stage"),
    [
        (content("config.json", lambda c: c.update(heisd={"prompt": "{instruction}"})), "prompt"),
        (
            content("config.json", lambda c: c.update(heisd={"prompt_suffix": [29872]})),
            "prompt ids, empty token",
        ),
        (
            content(
                "preprocessor_config.json",
                lambda c: c["tvf_normalize_params"][1].update(mean=[0.5, 0.5, 0.501]),
            ),
            "pixel values",
        ),
        (
            tensor("vision_backbone.featurizer.blocks.0.ls1.scale_factor", lambda t: t * 1.01),
            "first tower (DINOv2)",
        ),
        (
            tensor("vision_backbone.fused_featurizer.blocks.2.mlp.fc1.bias", lambda t: t.flip(0)),
            "second tower (SigLIP)",
        ),
        (tensor("projector.fc2.weight", lambda t: t.roll(1, 1)), "projector"),
        (tensor(f"{LAYER}.k_proj.weight", lambda t: t.flip(0)), "logits of the actions"),
        (
            tensor("language_model.model.embed_tokens.weight", changed_row),
            "logits of the actions",
        ),
        (
            content("config.json", lambda c: c["text_config"].update(rms_norm_eps=1e-4)),
            "logits of the actions",
        ),
        (
            content("config.json", lambda c: c["norm_stats"]["alpha"]["action"]["q99"].reverse()),
            "action, statistics 'alpha'",
        ),
        (
            content("config.json", lambda c: c.update(norm_stats={})),
            "action, statistics 'alpha'",
        ),
    ],
)  # fmt: skip
def test_one_altered_detail_fails_where_it_is(second, tmp_path, edit, stage):
    checkpoint = shutil.copytree(second[0], tmp_path / "model")
    edit(checkpoint)
    failed = next(row for row in verify(checkpoint, second[1]) if row.passed is False)
    assert (failed.case, failed.stage) == ("one", stage)


def test_the_eye_of_the_model_may_not_be_shut(second, tmp_path):
    """A projector that says the same of every picture: nothing else may be needed to notice."""
    checkpoint = shutil.copytree(second[0], tmp_path / "model")
    tensor("projector.fc3.weight", torch.zeros_like)(checkpoint)
    reference = tmp_path / "data"
    reference.mkdir()
    shutil.copy(second[1] / "one.bmp", reference)
    case = {"name": "one", "image": "one.bmp", "instruction": "go"}
    (reference / "reference.json").write_text(json.dumps({"cases": [case]}))
    np.savez(reference / "reference.npz")
    (failed,) = [row for row in verify(checkpoint, reference) if row.passed is False]
    assert (failed.stage, failed.measured) == ("another image's logits", "differ by 0")


class Hasty:
    """An engine that says one id less than its logits from the seventh token on."""

    def __init__(self, model):
        self._engine, self._passes = model.engine, 0

    def start(self, prompt):
        self._sequence, said = self._engine.start(prompt)
        self._passes = 1
        return self, said

    def extend(self, token):
        said, self._passes = self._sequence.extend(token), self._passes + 1
        return said._replace(greedy=said.greedy - 1) if self._passes == 7 else said


def test_a_path_that_errs_is_caught(second, monkeypatch):
    monkeypatch.setitem(PATHS, "hasty", Hasty)
    failed = next(row for row in verify(*second, path="hasty") if row.passed is False)
    assert (failed.case, failed.stage) == ("one", "tokens")
    with pytest.raises(
        ReferenceDataError, match=r"no decoding path 'fast'; there are \['compiled', 'hasty'"
    ):
        list(verify(*second, path="fast"))


def test_what_nothing_compares_is_named(second, tmp_path):
    reference = shutil.copytree(second[1], tmp_path / "data")
    with np.load(second[1] / "reference.npz") as arrays:
        np.savez(reference / "reference.npz", **arrays, one__colour=np.ones(3), other=np.ones(2))
    left = [row.stage for row in verify(second[0], reference) if row.case == ""]
    assert left == ["array one__colour", "array other"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: (f / "reference.json").unlink(), r"reference\.json is missing"),
        (lambda f: (f / "reference.json").write_text("{}"), "no list of cases"),
        (
            lambda f: (f / "reference.npz").write_bytes(b"PK\x03\x04"),
            r"reference\.npz is missing or",
        ),
        (lambda f: (f / "one.bmp").write_bytes(b"BM"), r"one\.bmp is missing or no picture"),
        (content("reference.json", lambda c: c["cases"][1].pop("prompt")), "'one__b' has no instr"),
        (content("reference.json", lambda c: c["cases"][1].pop("image")), "names no image"),
        (content("reference.json", lambda c: c["cases"][1].update(name="one")), "must differ"),
    ],
)
def test_a_damaged_reference_is_one_clear_line(second, tmp_path, edit, message):
    reference = shutil.copytree(second[1], tmp_path / "data")
    edit(reference)
    with pytest.raises(ReferenceDataError, match=message):
        list(verify(second[0], reference, dtypes=("float32",)))

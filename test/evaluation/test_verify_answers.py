"""`verify` on the references of the families whose answers have any length."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from support.tree import ROOT

from heisd_ros.errors import EngineError
from heisd_ros.evaluation.verify import verify
from heisd_ros.families.comparison import equal_or_tied
from heisd_ros.families.reference import ReferenceCase

DATA = ROOT / "test" / "data"
STAGES = {
    "pi0fast": ("two_cams", "prompt ids", "pixels of b_112", "columns", "logits", "tokens"),
    "nora": ("h5_long", "chat", "positions", "pixels", "visual tokens", "logits", "tokens"),
    "ecot": ("s_480x640", "prompt ids", "pixels", "projector", "logits of actions", "tokens"),
}


def folder_of(family):
    return DATA / f"{family}_reference"


def few(tmp_path, family, names):
    """A reference with some of its cases."""
    folder = tmp_path / "reference"
    shutil.copytree(folder_of(family), folder)
    content = json.loads((folder / "reference.json").read_text())
    content["cases"] = [case for case in content["cases"] if case["name"] in names]
    (folder / "reference.json").write_text(json.dumps(content))
    return folder


def failures(rows):
    return [(row.case, row.stage, row.measured) for row in rows if row.passed is False]


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("pi0fast", ("two_cams", "too_short")),
        ("nora", ("h5_long", "mixed_text")),
        ("ecot", ("s_480x640", "t_truncated")),
    ],
)
def test_upstream_s_outputs(tmp_path, family, names):
    reference = few(tmp_path, family, names)
    rows = list(verify(folder_of(family), reference))
    assert not failures(rows)
    name, *stages = STAGES[family]
    passed = {(row.case, row.stage) for row in rows if row.passed}
    assert {(name, stage) for stage in stages} <= passed
    refused = [row.case for row in rows if row.measured.startswith("refused")]
    assert refused == [name for name in names if name in ("too_short", "h5_long", "t_truncated")]


@pytest.mark.parametrize("path", ["plain", "static", "transformers"])
def test_both_engines_on_one_answer(tmp_path, path):
    reference = few(tmp_path, "ecot", ("s_300x180",))
    folder = folder_of("ecot")
    assert not failures(verify(folder, reference, path=path, dtypes=("float32",)))


def test_a_family_that_has_no_network_of_ours():
    with pytest.raises(EngineError, match="runs networks of our own; accepted: auto, plain"):
        next(verify(folder_of("nora"), folder_of("nora"), path="static"))


def test_other_weights_are_found_by_their_stage(tmp_path):
    reference = few(tmp_path, "pi0fast", ("two_cams",))
    tensors = load_file(reference / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
    tensors[name] = tensors[name] * 1.01
    save_file(tensors, reference / "model.safetensors")
    stage = failures(verify(reference, reference, dtypes=("float32",)))[0][1]
    assert stage == "logits"


def test_an_answer_that_should_have_been_decoded_fails(tmp_path):
    reference = few(tmp_path, "nora", ("bad_count",))
    content = json.loads((reference / "reference.json").read_text())
    content["cases"][0]["upstream_printed"] = ""
    (reference / "reference.json").write_text(json.dumps(content))
    (failure,) = failures(verify(folder_of("nora"), reference, dtypes=("float32",)))
    assert failure[1] == "actions" and "4 coefficients" in failure[2]


def test_an_answer_that_should_have_been_refused_fails(tmp_path):
    reference = few(tmp_path, "nora", ("h1_224",))
    content = json.loads((reference / "reference.json").read_text())
    content["cases"][0]["upstream_printed"] = "Error decoding tokens: ..."
    (reference / "reference.json").write_text(json.dumps(content))
    (failure,) = failures(verify(folder_of("nora"), reference, dtypes=("float32",)))
    assert failure[1] == "actions" and failure[2].startswith("decoded to")


@pytest.mark.parametrize(
    ("logits", "passed"),
    [([10.0, 9.91, 1.0], None), ([10.0, 9.5, 1.0], False), ([0.5, 0.47, 0.1], False)],
)
def test_a_tie_is_what_the_format_does_not_resolve(logits, passed):
    """bfloat16's neighbours of 10 lie 0.0625 apart, those of 0.5 lie 0.004 apart."""
    case = ReferenceCase("one", np.zeros((1, 1, 3), np.uint8), {}, {})
    exact = np.array([[0.0, 0.0, 5.0], logits])
    row = equal_or_tied(case, "tokens", [2, 0, 2], [2, 1, 1], lambda: exact)
    assert row.passed is passed
    assert ("tie at token 1" in row.measured) is (passed is None)
    assert equal_or_tied(case, "tokens", [2, 0], [2, 0], lambda: exact).passed is True

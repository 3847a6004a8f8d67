"""A folder that has Llama's sentencepiece model and no tokenizer.json."""

from __future__ import annotations

import builtins
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tree import ROOT

from heisd_ros.errors import CheckpointError
from heisd_ros.vla.tokenizer import read_tokenizer

FOLDER = ROOT / "test" / "data" / "openvla_reference"
FAST = read_tokenizer(FOLDER / "tokenizer.json")
CONVERTED = read_tokenizer(FOLDER / "tokenizer.model")
CASES = json.loads((FOLDER / "reference.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_upstream_s_ids(case):
    encoding = CONVERTED.encode(case["prompt"])
    assert encoding.ids == case["input_ids"] and encoding.tokens == case["tokens"]


@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="<>"), max_size=60))
def test_any_text_as_the_json_file_has_it(text):
    assert CONVERTED.encode(text).ids == FAST.encode(text).ids
    assert CONVERTED.decode(CONVERTED.encode(text).ids) == FAST.decode(FAST.encode(text).ids)


def test_a_damaged_model(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"\x00\x01 nothing")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is no sentencepiece model"):
        read_tokenizer(tmp_path / "tokenizer.model")


def test_without_sentencepiece_it_says_so(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "sentencepiece":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CheckpointError, match="pip install sentencepiece"):
        read_tokenizer(FOLDER / "tokenizer.model")

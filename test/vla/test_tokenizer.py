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


def changed(tmp_path, change):
    content = json.loads((FOLDER / "tokenizer.json").read_text())
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    return tmp_path / "tokenizer.json"


def test_a_part_that_names_a_missing_one_is_found_when_it_is_read(tmp_path):
    missing = {
        "type": "TemplateProcessing",
        "special_tokens": {},
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
    }
    missing["single"] = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, *missing["pair"]]
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer: "):
        read_tokenizer(changed(tmp_path, lambda c: c.update(post_processor=missing)))


def test_a_file_too_large_for_a_tokenizer_is_named(tmp_path):
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has 1099511627776 bytes; accepted"):
        read_tokenizer(tmp_path / "tokenizer.json")

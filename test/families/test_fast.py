"""FAST tokens: what cannot be decoded is an error, and what cannot be written too."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.tree import ROOT

from heisd_ros.errors import AnswerError, CheckpointError
from heisd_ros.families.fast import FastTokenizer

FOLDER = ROOT / "test" / "data" / "pi0fast_reference" / "action_tokenizer"


@pytest.fixture(scope="module")
def fast():
    return FastTokenizer.read(FOLDER)


def test_a_chunk_and_back(fast):
    rows = np.linspace(-1, 1, 10)[:, None] * np.linspace(0.2, 1, 7)
    ids = fast.encode(rows)
    again = fast.decode(ids, 10, 7)
    assert np.abs(again - rows).max() < 0.5 / fast.scale * np.sqrt(10)
    assert fast.encode(again) == ids


def test_ids_outside_the_vocabulary(fast):
    for wrong in (-1, fast.size, 10**9):
        with pytest.raises(AnswerError, match=f"accepted: 0 to {fast.size - 1}"):
            fast.coefficients([40, wrong])


def test_half_a_character(fast):
    halves = json.loads((FOLDER.parent / "reference.json").read_text())["fast_tokenizer"]
    for half in halves["half_character_ids"]:
        with pytest.raises(AnswerError, match="malformed UTF-8"):
            fast.coefficients([40, half])


@pytest.mark.parametrize(("horizon", "found"), [(9, 70), (11, 70)])
def test_a_wrong_number_of_coefficients(fast, horizon, found):
    ids = fast.encode(np.zeros((10, 7)))
    with pytest.raises(AnswerError, match=f"holds {found} coefficients; {horizon} actions of 7"):
        fast.decode(ids, horizon, 7)


def test_no_ids_are_no_chunk(fast):
    with pytest.raises(AnswerError, match="0 coefficients"):
        fast.decode([], 10, 7)


def test_coefficients_that_the_vocabulary_lacks(fast):
    with pytest.raises(ValueError, match="cannot be written"):
        fast.encode(np.full((10, 7), 900.0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"scale": 0, "min_token": 0}, "scale is 0"),
        ({"scale": "10", "min_token": 0}, "scale"),
        ({"scale": 10}, "min_token"),
        ([], "JSON object"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, content, message):
    (tmp_path / "processor_config.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer.json").write_bytes((FOLDER / "tokenizer.json").read_bytes())
    with pytest.raises(CheckpointError, match=message):
        FastTokenizer.read(tmp_path)


def test_the_folder_that_transformers_5_writes(tmp_path, fast):
    (tmp_path / "bpe_tokenizer").mkdir()
    for name, place in (("processor_config.json", ""), ("tokenizer.json", "bpe_tokenizer")):
        (tmp_path / place / name).write_bytes((FOLDER / name).read_bytes())
    assert FastTokenizer.read(tmp_path).encode(np.zeros((2, 3))) == fast.encode(np.zeros((2, 3)))

"""What a generation_config.json asks of greedy decoding."""

from __future__ import annotations

import pytest

from heisd_ros.errors import CheckpointError
from heisd_ros.vla.generation import GenerationRules


def test_nothing_is_asked_without_a_file(tmp_path):
    rules = GenerationRules.read(tmp_path)
    assert rules == GenerationRules()
    assert rules.room(90) == 20


@pytest.mark.parametrize(
    ("content", "room"),
    [
        ({}, 20),
        ({"max_new_tokens": 64}, 64),
        ({"max_length": 100}, 10),
        ({"max_length": 50}, 0),
        ({"max_length": 100, "max_new_tokens": 7}, 7),
    ],
)
def test_limits_count_as_generate_counts_them(content, room):
    assert GenerationRules.from_dict(content).room(90) == room


def test_stops_and_penalty():
    content = {"eos_token_id": [5, 6], "repetition_penalty": 1.05, "do_sample": True, "top_k": 3}
    rules = GenerationRules.from_dict(content)
    assert rules.stop_ids == {5, 6} and rules.repetition_penalty == 1.05
    assert GenerationRules.from_dict({"eos_token_id": 2}).stop_ids == {2}


@pytest.mark.parametrize(
    "content",
    [
        {"num_beams": 4},
        {"suppress_tokens": [3]},
        {"forced_eos_token_id": 2},
        {"min_new_tokens": 5},
        {"repetition_penalty": -1.0},
        {"repetition_penalty": "1.05"},
        {"eos_token_id": "end"},
        {"max_new_tokens": 0},
    ],
)
def test_what_would_change_the_answer_is_refused(content):
    (key,) = content
    with pytest.raises(ValueError, match=key):
        GenerationRules.from_dict(content)


def test_the_file_is_named(tmp_path):
    (tmp_path / "generation_config.json").write_text('{"num_beams": 4}')
    with pytest.raises(CheckpointError, match=r"generation_config.json: num_beams is 4"):
        GenerationRules.read(tmp_path)

"""A grown vocabulary writes new texts briefly and leaves prompts and weights as they were."""

from __future__ import annotations

import pytest
import torch
from support.small_models import CONFIG, INSTRUCTIONS, small_tokenizer

from heisd_ros.families.openvla.vocabulary import grown, transplant, with_vocabulary, words_of

TEXT = " PLAN: reach, grasp VISIBLE OBJECTS: bowl [172, 132, 208, 160] MOVE: ahead down"
TAGS = ("PLAN:", "VISIBLE OBJECTS:", "MOVE:")


def test_words_are_tags_numbers_and_phrases_that_no_prompt_holds():
    words = words_of([TEXT, " the bowl"], TAGS, ["pick up the bowl"])
    assert set(words) == {
        " PLAN:", " reach,", " grasp", " VISIBLE OBJECTS:", " bowl [", "172,", " 132,", " 208,",
        " 160]", " MOVE:", " ahead down",
    }  # fmt: skip


@pytest.mark.parametrize("more", [0, 200])
def test_prompts_stay_and_every_word_is_one_id_that_reads_back(more):
    old = small_tokenizer()
    words = [*words_of([TEXT], TAGS, INSTRUCTIONS), *(f"{n}mm" for n in range(more))]
    new = grown(old, words)
    for text in INSTRUCTIONS:
        assert new.encode(text).tokens == old.encode(text).tokens
    ids = new.encode(TEXT, add_special_tokens=False).ids
    assert len(ids) == 11
    assert new.decode(ids) == TEXT
    config = with_vocabulary(CONFIG, new)
    assert new.token_to_id("<PAD>") == config.pad_token_id == config.real_vocab_size
    assert new.token_to_id("<action_0>") == config.real_vocab_size - 1
    assert sorted(new.get_vocab().values()) == [*range(config.real_vocab_size + 1)]


def test_rows_go_with_their_tokens_and_a_new_word_is_the_mean_of_its_pieces():
    old = small_tokenizer()
    new = grown(old, [" ahead"])
    rows = torch.randn(CONFIG.language.vocab_size, 4)
    size = with_vocabulary(CONFIG, new).language.vocab_size
    moved = transplant(rows, old, new, size)
    assert moved.shape == (size, 4)
    for token, index in old.get_vocab().items():
        if (place := new.token_to_id(token)) is not None:
            torch.testing.assert_close(moved[place], rows[index])
    pieces = old.encode(" ahead", add_special_tokens=False).ids
    torch.testing.assert_close(moved[new.token_to_id(" ahead")], rows[pieces].mean(dim=0))

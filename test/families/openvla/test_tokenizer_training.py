from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.families.openvla.config import OPENVLA_PROMPT
from heisd_ros.families.openvla.tokenizer_training import train_tokenizer

INSTRUCTIONS = [f"put the {thing} on the plate" for thing in ("bowl", "mug", "butter")]
TOKENIZER = train_tokenizer(INSTRUCTIONS, 640, prompt="{instruction}\n")


def test_ids_are_laid_out_as_openvla_s():
    ids = [TOKENIZER.token_to_id(token) for token in ("<unk>", "<s>", "</s>", "<PAD>")]
    assert ids == [0, 1, 2, 640]
    actions = [TOKENIZER.token_to_id(f"<action_{i}>") for i in range(256)]
    assert actions == [639 - i for i in range(256)]


@given(st.text(max_size=60))
def test_any_text_is_encoded_without_loss(text):
    ids = TOKENIZER.encode(text).ids
    assert ids[0] == 1 and 0 not in ids
    if "<" not in text:  # a special token's name in the text is that token
        assert max(ids) < 640 - 256
        assert TOKENIZER.decode(ids) == text


def test_merges_cross_spaces():
    ids = TOKENIZER.encode("put the bowl on the plate\n").ids
    assert len(ids) <= 5
    assert any(" " in TOKENIZER.decode([token]).strip() for token in ids[1:])


def test_no_token_is_longer_than_asked():
    short = train_tokenizer(INSTRUCTIONS, 640, prompt=OPENVLA_PROMPT, max_token_length=4)
    texts = [short.decode([token]) for token in range(3, 640 - 256)]
    assert max(len(text.encode()) for text in texts if text.isascii()) <= 4


def test_a_vocabulary_without_room_for_bytes_and_actions():
    with pytest.raises(ValueError, match="vocab_size is 514; at least 515"):
        train_tokenizer(INSTRUCTIONS, 514)

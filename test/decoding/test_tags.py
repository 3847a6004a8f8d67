"""Fixed texts of an answer as drafts: what is drafted, and that it changes no token."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import support
from hypothesis import given, settings
from hypothesis import strategies as st
from support.references import FamilyReference

from heisd_ros import families
from heisd_ros.decoding.assembly import build_decoder
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.tags import LENGTH, MOST_DRAFTS, tag_drafts
from heisd_ros.decoding.types import Observation, Source
from heisd_ros.families.checkpoint import load_checkpoint

families.__path__.append(str(Path(support.__path__[0]) / "families"))
from heisd_ros.families.toy.codec import ToyCodec  # noqa: E402
from heisd_ros.families.toy.model import ToyModel, random_network  # noqa: E402

MOVE_REASONING, MOVE, ACTION = (1, 2, 3, 4), (1, 2, 5), (8, 9)
TAGS = (MOVE_REASONING, MOVE, ACTION)


@pytest.mark.parametrize(
    ("tokens", "drafts"),
    [
        ((), [MOVE_REASONING]),  # the next one, from its beginning
        ((30, 31), [MOVE_REASONING]),
        ((30, 1, 2), [(3, 4), (5,), MOVE_REASONING]),  # two begin so
        ((30, 1, 2, 3), [(4,), MOVE_REASONING]),
        ((*MOVE_REASONING, 30), [MOVE]),
        ((*MOVE_REASONING, 1), [(2, 5), MOVE]),
        ((*MOVE, 8), [(9,), ACTION]),  # one was left out
        ((*MOVE, *ACTION, 30), []),
    ],
)
def test_the_rest_of_what_has_begun_and_the_next_are_drafted(tokens, drafts):
    assert tag_drafts(tokens, TAGS) == drafts


def test_what_followed_in_an_earlier_answer_is_drafted_behind():
    old = (30, *MOVE, 40, 41, *ACTION, *range(50, 90))
    assert tag_drafts((*MOVE, 42), TAGS, old) == [(*ACTION, *range(50, 90))[:LENGTH]]
    assert tag_drafts((1, 2, 5)[:2], (MOVE,), old)[0][:3] == (5, 40, 41)


SMALL = st.lists(st.integers(0, 4), max_size=12)


@given(SMALL, st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), max_size=4), SMALL)
def test_drafts_are_few_and_bounded(tokens, tags, old):
    drafts = tag_drafts(tokens, tags, old * 5)
    assert len(drafts) <= MOST_DRAFTS and all(0 < len(draft) <= LENGTH for draft in drafts)
    for draft in drafts:  # each ends a text that the tokens begin, or is one
        assert any(
            [*tokens[len(tokens) - n :], *draft][: len(tag)] == tag
            for tag in tags
            for n in range(min(len(tag), len(tokens) + 1))
        )


@functools.lru_cache
def plain(seed):
    return AutoregressiveDecoder(ToyModel(random_network(seed))).infer(observation(0)).tokens


def observation(seed):
    picture = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Observation((picture,), "pick up the bowl")


@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 11))
def test_fixed_texts_of_any_kind_change_no_token(data, seed):
    model = ToyModel(random_network(seed))
    ids = st.one_of(st.sampled_from(plain(seed)), st.integers(0, 38))
    tags = data.draw(st.lists(st.lists(ids, min_size=1, max_size=5), min_size=1, max_size=4))
    codec = ToyCodec()
    codec.tags = tuple(map(tuple, tags))
    model.codec = model.engine.answer = codec
    subject = build_decoder(model, load_mode("last_command"))
    plainly = AutoregressiveDecoder(model)
    for frame in (0, 1, 0):
        result = subject.infer(observation(frame))
        own = plainly.infer(observation(frame))
        assert result.tokens == own.tokens and result.passes <= own.passes
        subject_begins = frame == 0 and result.source == Source.TAGS
        assert subject_begins or result.source == Source.LAST_COMMAND


def test_an_answer_of_only_a_fixed_text_takes_one_pass():
    model = ToyModel(random_network(4))
    codec = ToyCodec()
    codec.tags = (plain(4),)
    model.codec = model.engine.answer = codec
    result = build_decoder(model, load_mode("last_command")).infer(observation(0))
    assert (result.tokens, result.passes, result.source) == (plain(4), 1, "tags")


def test_a_reasoning_model_saves_passes_from_its_first_answer_on():
    reference = FamilyReference("ecot")
    model = load_checkpoint(reference.folder)
    subject = build_decoder(model, load_mode("last_command"))
    untagged = build_decoder(model, load_mode("last_command"))
    untagged.proposers[Source.LAST_COMMAND]._tags = ()
    del untagged.proposers[Source.TAGS]
    saved = []
    for name in ("ep0", "ep1", "ep3"):
        case = reference.cases[name]
        seen = Observation((reference.image(case["image"]),), case["instruction"])
        with_tags, without = subject.infer(seen), untagged.infer(seen)
        assert list(with_tags.tokens) == list(without.tokens) == case["generated_ids"]
        saved.append(without.passes - with_tags.passes)
    assert saved[0] >= 10 and sum(saved[1:]) > 0

"""Decoders of `transformers` under our engine: drafts of any shape give the plain loop's tokens."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.backbones import (
    KINDS,
    VOCABULARY,
    Open,
    Stopping,
    backbone,
    drafts_around,
    greedy_after,
)

from heisd_ros.decoding.tree import NO_DRAFT
from heisd_ros.decoding.verifier import Verification
from heisd_ros.vla.engine import Prompt
from heisd_ros.vla.transformers_engine import TransformersEngine

COUNT = 16


def engine_of(kind, penalty=1.0):
    model = backbone(kind)
    return TransformersEngine(model.model, model.lm_head, Open(), penalty)


def prompt_of(engine, seed, length=9):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCABULARY, (1, length), generator=generator)
    return Prompt(engine.embed(ids), ids=ids)


def through_drafts(engine, prompt, draft):
    """What a verifier does, in a few lines: takes drafted tokens while they are the model's own."""
    tokens, tree = [], draft(0)
    sequence, answers = engine.start(prompt, tree)
    while True:
        greedy, path, node = answers.greedy.tolist(), [], -1
        while True:
            same = [
                child
                for child in tree.children.get(node, ())
                if tree.tokens[child] == greedy[node + 1]
            ]
            if not same:
                break
            node = same[0]
            path.append(node)
        tokens += [tree.tokens[node] for node in path] + [greedy[node + 1]]
        if len(tokens) >= COUNT:
            return tokens[:COUNT]
        if len(tree):
            sequence.keep(path)
        tree = draft(len(tokens))
        answers = sequence.extend(tokens[-1], tree)


def plain(engine, prompt):
    """The plain loop: a token a pass, no drafts."""
    return through_drafts(engine, prompt, lambda known: NO_DRAFT)


@torch.inference_mode()
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10**6),
    penalty=st.sampled_from([1.0, 1.05, 1.4]),
    length=st.integers(1, 12),
)
@settings(max_examples=60)
def test_drafts_give_the_tokens_of_the_plain_loop(kind, seed, penalty, length):
    engine = engine_of(kind, penalty)
    prompt = prompt_of(engine, seed, length)
    truth = plain(engine, prompt)
    assert greedy_after(backbone(kind), prompt, truth, penalty) == truth
    assert through_drafts(engine, prompt, drafts_around(truth, seed)) == truth


@torch.inference_mode()
@given(
    kind=st.sampled_from(["llama", "gemma", "qwen2"]),
    seed=st.integers(0, 10**6),
    penalty=st.sampled_from([1.0, 1.3]),
    data=st.data(),
)
@settings(max_examples=25)
def test_the_verifier_ends_where_the_plain_loop_does(kind, seed, penalty, data):
    """Also where a draft goes on past the stop id, and where the limit comes first."""
    prompt = prompt_of(engine_of(kind), seed)
    model = backbone(kind)
    free = plain(TransformersEngine(model.model, model.lm_head, Open(), penalty), prompt)
    stops = data.draw(st.sets(st.sampled_from(free), max_size=3))
    answer = Stopping(stops)
    answer.max_tokens = data.draw(st.integers(1, COUNT))
    ends = [place + 1 for place, token in enumerate(free) if token in stops]
    expected = free[: min([answer.max_tokens, *ends])]
    engine = TransformersEngine(model.model, model.lm_head, answer, penalty)
    draft = drafts_around(free, seed)
    verification = Verification.start(engine, prompt, draft(0), "exact", room=40)
    while not verification.finished:
        verification.advance(draft(len(verification.tokens)), "exact")
    assert verification.tokens == expected
    verification = Verification.start(engine, prompt, NO_DRAFT, "exact")
    verification.finish()
    assert verification.tokens == expected


@torch.inference_mode()
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["gemma", "llama"]))
@settings(max_examples=15)
def test_a_prefix_that_sees_itself_in_both_directions(seed, kind):
    engine = engine_of(kind)
    every = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    prompt = dataclasses.replace(prompt_of(engine, seed), mask=every)
    truth = plain(engine, prompt)
    assert greedy_after(backbone(kind), prompt, truth) == truth
    assert through_drafts(engine, prompt, drafts_around(truth, seed)) == truth
    additive = dataclasses.replace(prompt, mask=torch.zeros(1, 1, 9, 9))
    assert through_drafts(engine, additive, drafts_around(truth, seed)) == truth


@torch.inference_mode()
def test_positions_go_on_where_the_prompt_says():
    engine = engine_of("llama")
    prompt = prompt_of(engine, 5)
    moved = dataclasses.replace(
        prompt, positions=torch.tensor([[0, 1, 2, 2, 2, 3, 4, 5, 6]]), next_position=7
    )
    truth = plain(engine, moved)
    assert greedy_after(backbone("llama"), moved, truth) == truth
    assert through_drafts(engine, moved, drafts_around(truth, 1)) == truth
    assert truth != plain(engine, prompt)


@torch.inference_mode()
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_the_plain_loop_is_that_of_generate(penalty):
    model, engine = backbone("qwen2"), engine_of("qwen2", penalty)
    prompt = prompt_of(engine, 11)
    generated = model.generate(
        prompt.ids,
        attention_mask=torch.ones_like(prompt.ids),
        max_new_tokens=COUNT,
        do_sample=False,
        repetition_penalty=penalty,
        eos_token_id=None,
        pad_token_id=0,
    )
    expected = generated[0, prompt.ids.shape[1] :].tolist()
    assert plain(engine, prompt) == expected


@torch.inference_mode()
def test_logits_of_a_pass_are_those_after_the_penalty():
    engine = engine_of("llama", penalty=1.5)
    prompt = prompt_of(engine, 2)
    with_penalty = engine.start(prompt)[1].logits[0]
    raw = engine_of("llama").start(prompt)[1].logits[0]
    seen = torch.zeros(VOCABULARY, dtype=torch.bool)
    seen[prompt.ids.flatten()] = True
    assert torch.equal(raw[~seen], with_penalty[~seen])
    assert (raw[seen] > with_penalty[seen]).all()


@torch.inference_mode()
def test_an_answer_longer_than_its_room_grows_the_cache():
    engine = engine_of("gemma")
    prompt = prompt_of(engine, 4, length=2)
    truth = plain(engine, prompt)
    assert greedy_after(backbone("gemma"), prompt, truth) == truth


def test_a_penalty_needs_the_prompt_s_ids():
    engine = engine_of("llama", penalty=1.1)
    with pytest.raises(ValueError, match="prompt's ids"):
        engine.start(Prompt(torch.zeros(1, 3, 16, dtype=torch.float64)))


def test_attention_that_no_mask_describes_is_refused():
    model = backbone("llama")
    config = type(model.config)(layer_types=["linear_attention"] * 3, num_hidden_layers=3)
    with pytest.raises(ValueError, match="linear_attention"):
        TransformersEngine(Other(config), model.lm_head, Open())


class Other(torch.nn.Module):
    """A decoder of another kind."""

    def __init__(self, config):
        super().__init__()
        self.config = config

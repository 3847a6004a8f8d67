import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_models import (
    CONFIG,
    INSTRUCTIONS,
    acting_vla,
    configs,
    random_images,
    small_vla,
)

from heisd_ros.decoding.acceptance import TOKEN_BIAS, within_tolerance
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.redraft import REDRAFT_ROOM, redraft
from heisd_ros.decoding.tree import NO_DRAFT, DraftTree
from heisd_ros.decoding.types import Observation
from heisd_ros.decoding.verifier import Verification
from heisd_ros.vla.engine import PlainEngine
from heisd_ros.vla.static_engine import StaticEngine

LEVELS = range(7)
ENGINES = pytest.mark.parametrize("make_engine", [PlainEngine, StaticEngine])


@functools.lru_cache(maxsize=64)
def greedy_run(config, seed, make=small_vla):
    """A random model, its prompt columns and the tokens of the plain loop, in double precision.

    So that no rounding decides between two tokens: shapes of the products differ between the loops.
    """
    vla = make(config, seed)
    vla.model.double()
    size = config.proprio_size
    observation = Observation(
        random_images(config, seed), INSTRUCTIONS[0], np.zeros(size, np.float32) if size else None
    )
    tokens = AutoregressiveDecoder(vla).infer(observation).tokens
    with torch.inference_mode():
        inputs = vla.encode(observation.images, observation.instruction, observation.proprio)
        features = vla.model.vision_features(inputs.pixels)
        prompt = vla.model.embed(inputs.ids, vla.model.project(features), inputs.proprio)
    return vla.model, prompt, tokens


@st.composite
def drafts(draw, model, tokens):
    """Chains that agree with the model now and then, also after they went wrong."""
    ids = st.integers(model.action_rows.start, model.action_rows.stop - 1)
    chain = st.tuples(*[st.one_of(st.just(tokens[i]), ids) for i in LEVELS])
    chains = draw(st.lists(chain, max_size=5))
    return draw(st.sampled_from([DraftTree.from_chains, DraftTree.crossed]))(chains)


@torch.inference_mode()
def decode(engine, prompt, tree, rule, how, correct=False):
    """Decodes what a first pass left, in one of four ways.

    `how`: "tails" feeds the drafts' tails, "redraft" what the model said down them, "pass" one
    token a pass, "finish" all at once.
    """
    verification = Verification.start(engine, prompt, tree, rule, REDRAFT_ROOM, correct, True)
    first = verification.accepted
    if how == "finish":
        verification.finish()
    while not verification.finished:
        later = NO_DRAFT
        if how == "tails":
            later = tree.tails(len(verification.tokens))
        elif how == "redraft":
            later = redraft(verification, tree, rule)
        verification.advance(later, rule)
    return verification, first


@ENGINES
@settings(max_examples=40, deadline=None)
@given(data=st.data(), config=configs(), seed=st.integers(0, 2))
def test_exact_verification_returns_the_autoregressive_tokens(make_engine, data, config, seed):
    model, prompt, tokens = greedy_run(config, seed)
    tree = data.draw(drafts(model, tokens))
    how = data.draw(st.sampled_from(["tails", "redraft", "pass", "finish"]))
    verification, _ = decode(make_engine(model), prompt, tree, "exact", how)
    assert tuple(verification.tokens) == tokens


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 3))
def test_partial_acceptance_costs_the_tokens_that_are_missing(data, seed):
    model, prompt, tokens = greedy_run(CONFIG, seed)
    tree = data.draw(drafts(model, tokens))
    engine = PlainEngine(model)
    plain, accepted = decode(engine, prompt, tree, "exact", "pass")
    assert plain.passes == 1 + max(0, 6 - accepted)
    assert decode(engine, prompt, tree, "exact", "finish")[0].passes == plain.passes
    again, _ = decode(engine, prompt, tree, "exact", "tails")
    assert again.passes <= plain.passes


@ENGINES
def test_answers_and_second_choices_are_the_models_down_the_nearest_branch(make_engine):
    model, prompt, tokens = greedy_run(CONFIG, 0, acting_vla)
    off = 1 if tokens[0] < model.action_rows.stop - 2 else -1
    near, far = ((tokens[0] + n * off, *tokens[1:]) for n in (1, 2))
    with torch.inference_mode():
        tree = DraftTree.from_chains([far, near])
        verification = Verification.start(make_engine(model), prompt, tree, "exact")
        alone = DraftTree.from_chains([near[:6]])
        _, said = PlainEngine(model).start(prompt, alone)
        best = said.logits[1:].topk(2, dim=-1).indices.tolist()
    assert verification.tokens == [tokens[0]]
    seconds = verification.second_choices()
    found = zip(verification.answers, seconds, strict=True)
    assert [[own, each.token] for own, each in found] == best
    margins = said.logits[1:].topk(2, dim=-1).values
    behind = (margins[:, 0] - margins[:, 1]).tolist()
    assert [each.behind for each in seconds] == pytest.approx(behind, abs=1e-4)


@pytest.mark.parametrize("how", ["pass", "finish"])
@pytest.mark.parametrize("accepted", range(8))
def test_passes_are_counted_where_the_model_runs(accepted, how):
    model, prompt, tokens = greedy_run(CONFIG, 0)
    wrong = model.action_rows.start + (tokens[min(accepted, 6)] == model.action_rows.start)
    chain = (*tokens[:accepted], *[wrong] * (7 - accepted))
    calls = []
    hook = model.language_model.model.register_forward_hook(lambda *_: calls.append(1))
    try:
        tree = DraftTree.from_chains([chain])
        verification, _ = decode(PlainEngine(model), prompt, tree, "exact", how)
    finally:
        hook.remove()
    assert len(calls) == verification.passes == 1 + max(0, 6 - accepted)
    assert tuple(verification.tokens) == tokens


def said_after(model, prompt, tokens):
    """What the model says at each of the 7 places, after these tokens before it: one plain pass."""
    with torch.inference_mode():
        embedded = model.language_model.model.embed_tokens(torch.tensor([tokens[:6]]))
        hidden = model.language_model.model(torch.cat([prompt, embedded], dim=1))
        return model.language_model.logits(hidden[0, prompt.shape[1] - 1 :]).argmax(-1).tolist()


def within_bounds(rule, tokens, own):
    """Whether executed tokens keep a rule's bounds around the model's answers to them."""
    if rule == "sequence_relaxed":
        return within_tolerance(tokens, own)
    bias = [abs(a - b) for a, b in zip(tokens, own, strict=True)]
    return max(bias) <= TOKEN_BIAS and bias[6] == 0


def near(model, token):
    """Tokens at most 18 bins away."""
    ids = model.action_rows
    return st.integers(-18, 18).map(lambda o: min(max(token + o, ids.start), ids.stop - 1))


@ENGINES
@settings(max_examples=80, deadline=None)
@given(data=st.data(), seed=st.integers(0, 3), correct=st.booleans())
def test_executed_tokens_stay_near_what_the_model_says_after_them(make_engine, data, seed, correct):
    """Judged by a pass over the outcome itself: what was kept of the cache belongs to it."""
    model, prompt, tokens = greedy_run(CONFIG, seed)
    offsets = st.lists(st.integers(-8, 8), min_size=6, max_size=6)
    chain = st.one_of(
        st.tuples(*[near(model, token) for token in tokens]),
        offsets.map(lambda drawn: beside(model, prompt, drawn)),
    )
    tree = DraftTree.crossed(data.draw(st.lists(chain, max_size=3)))
    how = data.draw(st.sampled_from(["tails", "redraft", "pass", "finish"]))
    rule = data.draw(st.sampled_from(["token_relaxed", "sequence_relaxed"]))
    verification, _ = decode(make_engine(model), prompt, tree, rule, how, correct)
    own = said_after(model, prompt, verification.tokens)
    assert within_bounds(rule, verification.tokens, own)
    assert verification.own == own, "a database keeps what the model said after what was executed"
    assert verification.passes <= 7


def beside(model, prompt, offsets):
    """A draft that the rules accept as a whole: each token some bins off the model's answer."""
    ids, chain = range(model.action_rows.start, model.action_rows.stop), []
    for offset in (*offsets, 0):
        own = said_after(model, prompt, [*chain, *[ids.start] * (6 - len(chain))])[len(chain)]
        chain.append(own + offset if own in ids and own + offset in ids else own)
    return tuple(chain)


def test_a_correction_is_executed_within_the_bounds_and_the_draft_elsewhere():
    outcomes = []
    for seed in range(20):
        model, prompt, _ = greedy_run(CONFIG, seed)
        chain = beside(model, prompt, np.random.default_rng(seed).integers(-3, 4, 6).tolist())
        own = said_after(model, prompt, chain)
        if chain == tuple(own):
            continue
        tree, engine = DraftTree.from_chains([chain]), PlainEngine(model)
        drafted, _ = decode(engine, prompt, tree, "sequence_relaxed", "redraft")
        assert (tuple(drafted.tokens), drafted.passes, drafted.accepted) == (chain, 1, 7)
        step, _ = decode(engine, prompt, tree, "sequence_relaxed", "redraft", correct=True)
        assert step.passes == 2
        if tuple(step.tokens) == chain:
            assert step.accepted == 7
            assert not within_tolerance(own, said_after(model, prompt, own))
        else:
            assert step.tokens[:6] == own[:6]
        outcomes.append(tuple(step.tokens) == chain)
    assert set(outcomes) == {True, False}


def test_nothing_drafted_is_the_plain_loop():
    model, prompt, tokens = greedy_run(CONFIG, 1)
    verification, _ = decode(PlainEngine(model), prompt, NO_DRAFT, "exact", "tails")
    assert (tuple(verification.tokens), verification.passes) == (tokens, 7)
    assert verification.accepted == 0


def test_a_draft_that_comes_after_the_prefill_is_verified_in_the_next_pass():
    model, prompt, tokens = greedy_run(CONFIG, 2)
    tree = DraftTree.from_chains([tokens[1:]])
    with torch.inference_mode():
        verification = Verification.start(
            PlainEngine(model), prompt, NO_DRAFT, "exact", room=len(tree)
        )
        verification.advance(tree, "exact")
    assert (tuple(verification.tokens), verification.passes) == (tokens, 2)
    assert verification.accepted == 6


def test_the_prompts_columns_do_not_see_the_draft():
    model, prompt, tokens = greedy_run(dataclasses.replace(CONFIG), 3)
    with torch.inference_mode():
        engine = PlainEngine(model)
        plain = Verification.start(engine, prompt, NO_DRAFT, "exact")
        drafted = Verification.start(engine, prompt, DraftTree.from_chains([tokens]), "exact")
    torch.testing.assert_close(plain.prompt_hidden, drafted.prompt_hidden)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_exact_verification_through_graphs_on_a_gpu_returns_the_autoregressive_tokens():
    model, prompt, tokens = greedy_run(CONFIG, 0)
    engine = StaticEngine(copy.deepcopy(model).cuda())
    wrong = model.action_rows.start
    # Each way meets graphs that another has captured.
    for how in ("finish", "tails", "redraft", "pass"):
        for accepted in range(8):
            chain = (*tokens[:accepted], *[wrong] * (7 - accepted))
            tree = DraftTree.crossed([chain, tokens[::-1]])
            verification, _ = decode(engine, prompt.cuda(), tree, "exact", how)
            assert tuple(verification.tokens) == tokens

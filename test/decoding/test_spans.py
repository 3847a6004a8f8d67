"""Relaxed acceptance of FAST tokens: what is executed stays near what the model would have said."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.tree import ROOT

from heisd_ros.decoding.acceptance import (
    GROUP_BIAS,
    GROUP_TOKEN_BIAS,
    TOKEN_BIAS,
    accept,
    within_tolerance,
)
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.families.fast import BIN, FastTokenizer
from heisd_ros.families.nora.codec import NoraCodec

FAST = FastTokenizer.read(ROOT / "test" / "data" / "pi0fast_reference" / "action_tokenizer")
HORIZON, DIMENSIONS, FIRST, STOP, WORD = 5, 7, 100, 1, 50
CODEC = NoraCodec(
    FAST,
    np.full(DIMENSIONS, -1.0),
    np.full(DIMENSIONS, 1.0),
    HORIZON,
    range(FIRST, FIRST + FAST.size),
    frozenset({STOP}),
    64,
)
IDS = {span: FIRST + index for index, span in enumerate(FAST.spans)}
SIZE = HORIZON * DIMENSIONS
RULES = st.sampled_from(["token_relaxed", "sequence_relaxed"])
SMALL = st.lists(st.integers(-3, 3), min_size=SIZE, max_size=SIZE)
LIMITS = {"token_relaxed": TOKEN_BIAS, "sequence_relaxed": GROUP_TOKEN_BIAS}


def said(coefficients):
    """The answer, without its end, that holds coefficients."""
    text = "".join(chr(number - FAST.min_token) for number in coefficients)
    return tuple(FIRST + index for index in FAST.tokenizer.encode(text).ids)


def held(tokens):
    return [number for token in tokens for number in CODEC.span(token)]


def nudged(coefficients, rng, share):
    return [each + rng.choice((-1, 1)) * (rng.random() < share) for each in coefficients]


class Model:
    """Says what fits what was said before: it nudges the rest, by the whole prefix."""

    def __init__(self, base, seed, share):
        self.base, self.seed, self.share = base, seed, share

    def __call__(self, tokens):
        rest = self.base[len(held(tokens)) :]
        rng = random.Random(f"{self.seed} {tokens}")
        return said(nudged(rest, rng, self.share))[0] if rest else STOP


def run(model, rule, draft, passes=100):
    """Decodes with drafts in every pass: the answer, and the model's own token at each place."""
    tokens, own = [], []
    while not CODEC.finished(tokens):
        tree = DraftTree.from_chains(draft(tokens))
        paths = {-1: tuple(tokens)}
        for node, (token, parent) in enumerate(zip(tree.tokens, tree.parents, strict=True)):
            paths[node] = (*paths[parent], token)
        greedy = [model(paths[node]) for node in range(-1, len(tree))]
        path = accept(rule, tree, greedy, tokens, CODEC, own)
        own += [greedy[node + 1] for node in (-1, *path)]
        tokens += [tree.tokens[node] for node in path]
        if CODEC.finished(tokens):
            own.pop()
        else:
            tokens.append(greedy[path[-1] + 1 if path else 0])
    return tokens, own


def answered(tokens, own):
    """The model's own answer to what was executed: its tokens, where both cover the same."""
    answer, place = [], 0
    while place < len(tokens):
        answer.append(own[place])
        if tokens[place] == own[place]:
            place += 1
            continue
        wanted, covered = len(CODEC.span(own[place])), 0
        while covered < wanted:
            covered += len(CODEC.span(tokens[place]))
            place += 1
        assert covered == wanted
    return answer


@given(RULES, SMALL, st.integers(0, 999), st.sampled_from([0.02, 0.1]), st.data())
def test_what_is_executed_keeps_the_bound_around_the_models_own_answer(
    rule, base, seed, share, data
):
    model, rng = Model(base, seed, share), random.Random(seed)
    count = data.draw(st.integers(1, 3))

    def draft(tokens):
        rest = base[len(held(tokens)) :]
        return [(*said(nudged(rest, rng, share)), STOP) for _ in range(count)]

    tokens, own = run(model, rule, draft)
    executed, wanted = CODEC.chunk(tokens), CODEC.chunk(answered(tokens, own))
    off = np.abs(executed - wanted) / BIN
    assert off[:, :-1].max() <= LIMITS[rule] + 1e-6
    assert off.max(axis=0).sum() <= GROUP_BIAS + 1e-6 or rule == "token_relaxed"
    assert (off[:, -1] == 0.0).all()
    if rule == "sequence_relaxed":
        assert within_tolerance(tokens, answered(tokens, own), CODEC)


@given(SMALL, st.integers(0, 999), st.data())
def test_exact_acceptance_is_the_plain_loop(base, seed, data):
    model = Model(base, seed, 0.2)
    plain = run(model, "exact", lambda tokens: [])[0]
    drafted = data.draw(st.sampled_from([base, nudged(base, random.Random(seed), 0.1)]))
    tail = lambda tokens: [said(drafted[len(held(tokens)) :])]  # noqa: E731
    assert run(model, "exact", tail)[0] == plain


@given(SMALL, st.integers(0, SIZE - 1), st.sampled_from([-1, 1]), RULES)
def test_one_coefficient_may_differ_by_a_step_and_the_grippers_by_none(base, place, step, rule):
    """Whatever the tokens are: a different number is often written with other tokens."""
    other = [each + step * (at == place) for at, each in enumerate(base)]
    own, tokens = (*said(base), STOP), (*said(other), STOP)
    gripper = place % DIMENSIONS == DIMENSIONS - 1
    near = CODEC.steps[place] <= LIMITS[rule]
    assert gripper or near
    assert within_tolerance(tokens, own, CODEC) == (not gripper)
    if [len(CODEC.span(t)) for t in tokens] == [len(CODEC.span(t)) for t in own]:
        greedy = [*own, STOP]
        path = accept(rule, DraftTree.from_chains([tokens]), greedy, (), CODEC)
        same = [one == other for one, other in zip(tokens, own, strict=True)]
        first = same.index(False)
        assert len(path) == (first if gripper else len(tokens))


def test_several_tokens_are_compared_with_one_that_covers_the_same():
    zero, step, two = IDS[(0,)], IDS[(1,)], IDS[(0, 0)]
    chain = (zero, step)
    # After the first the model would go on in its own way: it is not asked.
    accepted = lambda greedy, tokens=(): accept(  # noqa: E731
        "token_relaxed", DraftTree.from_chains([chain]), greedy, tokens, CODEC, tokens
    )
    assert accepted((two, step, STOP)) == (0, 1)
    assert accepted((two, two, STOP)) == (0, 1)
    assert accepted((IDS[(0, 0, 0)], zero, STOP)) == (), "it covers less than the model's own"
    assert accepted((STOP, zero, STOP)) == ()
    # The seventh is the gripper's.
    assert accepted((two, step, STOP), (zero,) * 5) == ()
    assert accepted((two, step, STOP), (zero,) * 6) == (0, 1)
    assert accept("exact", DraftTree.from_chains([chain]), (two, step, STOP), (), CODEC) == ()


def test_differences_add_up_over_the_passes_of_an_answer():
    zero, step = IDS[(0,)], IDS[(1,)]
    tree = DraftTree((step,), (-1,))
    begun = [zero] * DIMENSIONS
    for earlier, passes in ((zero, True), (step, False)):
        tokens = [earlier, *begun[1:]]
        path = accept("token_relaxed", tree, [zero, zero], tokens, CODEC, begun)
        assert (path == (0,)) == passes, "a step of each of two coefficients is beyond 9 bins"


def test_words_and_parts_of_coefficients_are_exact():
    zero, step = (IDS[(number,)] for number in (0, 1))
    half = FIRST + FAST.spans.index(())
    judge = lambda tree, greedy, tokens: accept(  # noqa: E731
        "sequence_relaxed", DraftTree.from_chains([tree]), greedy, tokens, CODEC, tokens
    )
    assert judge((WORD,), (WORD + 1, zero), ()) == ()
    assert judge((WORD, step), (WORD, zero, zero), ()) == (0, 1)
    assert judge((half, step), (half, zero, zero), ()) == (0,), "what follows has no known place"
    assert judge((step,), (zero, zero), (half,)) == ()
    assert judge((zero,), (half, zero), ()) == () == judge((half,), (zero, zero), ())
    whole = (*said([0] * SIZE), STOP)
    assert not within_tolerance((WORD, *whole), whole, CODEC)
    assert not within_tolerance((half, *whole), whole, CODEC)
    assert not within_tolerance(said([0] * (SIZE - 1)), whole[:-1], CODEC)
    assert within_tolerance((half, WORD), (half, WORD), CODEC)


@given(st.lists(st.integers(0, FAST.size - 1), min_size=1, max_size=20))
def test_the_coefficients_of_ids_are_those_of_each(ids):
    assume(all(FAST.spans[index] for index in ids))
    assert [number for index in ids for number in FAST.spans[index]] == [*FAST.coefficients(ids)]


@pytest.mark.parametrize("horizon", [1, 2, 5, 10, 50])
def test_a_step_of_a_coefficient_moves_a_number_by_no_more_than_its_bins(horizon):
    steps = np.reshape(FAST.steps(horizon, 3), (horizon, 3))
    assert np.isinf(steps[:, -1]).all()
    for k in range(horizon):
        moved = FAST.decode(said_in(horizon, 3, k), horizon, 3)
        assert np.abs(moved).max() / BIN <= steps[k, 0] + 1e-9
        assert np.abs(moved).max() / BIN >= 0.5 * steps[k, 0]


def said_in(horizon, dimensions, place):
    """FAST ids of a chunk with one coefficient of one step."""
    numbers = np.zeros((horizon, dimensions), int)
    numbers[place, 0] = 1
    return [token - FIRST for token in said(numbers.ravel().tolist())]

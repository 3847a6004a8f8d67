"""How much of a draft is accepted: the longest path of greedy tokens, frame by frame."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.small_models import CONFIG, small_model

from heisd_ros.decoding.tree import DraftTree
from heisd_ros.training.distillation import TeacherFrames
from heisd_ros.training.draft_acceptance import (
    DraftAcceptance,
    accepted_length,
    measure_acceptance,
)

tokens = st.integers(0, 2)
chains = st.lists(st.lists(tokens, min_size=1, max_size=6), min_size=1, max_size=5)


class Parrot:
    """A drafter that drafts what it was told, and reads no model."""

    def __init__(self, drafts):
        self.drafts = list(drafts)
        self.prompts = []

    def parameters(self):
        return iter([torch.zeros(1)])

    def start(self, hidden, embeds, token):
        self.prompts.append((hidden, embeds, token))
        return self.drafts[len(self.prompts) - 1]

    def follow(self, vocabulary, state, hidden, tokens):
        assert len(hidden) == len(tokens) == 0
        return state

    def propose(self, vocabulary, state, depth, top_k, nodes):
        return state, list(range(-1, len(state) - 1))


@given(chains, st.lists(tokens, min_size=6, max_size=6))
def test_the_longest_common_beginning_with_any_chain_is_accepted(drafts, greedy):
    tree = DraftTree.from_chains(drafts)

    def shared(chain):
        return next(
            (i for i, (a, b) in enumerate(zip(chain, greedy, strict=False)) if a != b), len(chain)
        )

    assert accepted_length(tree.tokens, tree.parents, greedy) == max(map(shared, drafts))


def test_nothing_drafted_is_nothing_accepted():
    assert accepted_length([], [], [1, 2]) == 0


def test_frames_are_counted_by_how_far_they_got():
    frames = TeacherFrames(
        hidden=torch.arange(4.0).view(4, 1, 1).expand(4, 5 + 6, 32).half(),
        embeds=torch.arange(4.0).view(4, 1, 1).expand(4, 5, 32).half(),
        tokens=torch.tensor([[100 * row + i for i in range(7)] for row in range(4)]),
        lengths=torch.tensor([5, 4, 3, 5]),
        held_out=torch.ones(4, dtype=torch.bool),
        episodes=(0, 1),
    )
    parrot = Parrot([[1, 2, 0], [0, 102, 103], [301, 302, 303]])
    result = measure_acceptance(
        parrot, small_model().language_model, frames, torch.tensor([0, 1, 3]), 6, 1, 3
    )
    assert result.reached == pytest.approx((2 / 3, 2 / 3, 1 / 3, 0, 0, 0))
    assert result.length == pytest.approx(5 / 3)
    assert result.frames == 3
    for row, (hidden, embeds, first) in zip((0, 1, 3), parrot.prompts, strict=True):
        length = int(frames.lengths[row])
        assert first == 100 * row
        assert hidden.shape == embeds.shape == (1, length, CONFIG.language.hidden_size)
        assert hidden.dtype == torch.float32 and (hidden == row).all() and (embeds == row).all()


def test_plain_values_are_rounded():
    result = DraftAcceptance(frames=3, depth=2, top_k=1, nodes=2, reached=(2 / 3, 1 / 3))
    assert result.to_dict() == {
        "frames": 3,
        "depth": 2,
        "top_k": 1,
        "nodes": 2,
        "length": 1.0,
        "reached": [0.6667, 0.3333],
    }

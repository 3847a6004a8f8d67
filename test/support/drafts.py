"""A database and a drafter that draft what they were given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from support.small_models import INSTRUCTIONS

from heisd_ros.retrieval.entries import Matches
from heisd_ros.vla.drafter import DrafterState


class FakeShard:
    """Gives the same entries to every key."""

    grown = False

    def __init__(self, vla, chains, similarity=0.99):
        count = len(chains)
        tokens = np.array(chains, np.int64)
        self.matches = Matches(
            similarity=np.full(count, similarity, np.float32),
            actions=vla.codec.actions(tokens).astype(np.float32),
            tokens=tokens,
            episodes=np.zeros(count, np.int64),
            steps=np.arange(count),
        )

    def search(self, key, k):
        return self.matches

    def clearance(self, matches):
        return 20.0


class FakeDatabase:
    def __init__(self, shard, how="exact"):
        self.shard, self.how = shard, how

    def shard_for(self, instruction):
        if instruction == INSTRUCTIONS[0]:
            return self.shard, self.how
        return None, f"no shard for {instruction!r}; no retrieval"


class FakeDrafter:
    """Proposes one given chain of what follows the first token."""

    def __init__(self, chain):
        self.chain = chain

    def start(self, hidden, embeds, token):
        assert hidden.shape == embeds.shape
        self.columns = hidden.shape[1]
        return DrafterState(None, None, token, self.columns - 1)

    def follow(self, vocabulary, state, hidden, tokens):
        assert len(hidden) == len(tokens)
        return replace(state, position=state.position + len(tokens))

    def propose(self, vocabulary, state, depth, top_k, nodes):
        chain = tuple(self.chain[state.position + 1 - self.columns :][:depth])
        return list(chain), list(range(-1, len(chain) - 1))

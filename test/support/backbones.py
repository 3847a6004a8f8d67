"""Tiny random decoders of `transformers`, in float64: no two logits are as near as rounding."""

from __future__ import annotations

import random
from functools import lru_cache

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from heisd_ros.decoding.tree import DraftTree
from heisd_ros.vla.engine import Prompt

VOCABULARY, WINDOW = 40, 6
KINDS = ("llama", "gemma", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text")
"""The last three look back through a sliding window, in all or in some layers."""


class Open:
    """An answer without an end of its own."""

    counted = False
    action_ids = range(10, 20)
    max_tokens = 24
    groups = ()

    def finished(self, tokens):
        return len(tokens) >= self.max_tokens

    def distance(self, token, greedy, position):
        return 0 if token == greedy else None


class Stopping(Open):
    """An answer that ends with any of some ids."""

    def __init__(self, stops):
        self.stops = stops

    def finished(self, tokens):
        return len(tokens) >= self.max_tokens or (len(tokens) > 0 and tokens[-1] in self.stops)


@lru_cache
def backbone(kind: str):
    """A causal language model with three layers of width 16."""
    torch.manual_seed(3)
    sliding = {"sliding_window": WINDOW} if kind in ("mistral", "gemma2", "gemma3_text") else {}
    config = AutoConfig.for_model(
        kind,
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        max_position_embeddings=256,
        initializer_range=0.5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="eager" if kind == "gemma2" else "sdpa",
        **sliding,
    )
    model = AutoModelForCausalLM.from_config(config).double().eval()
    return model.requires_grad_(False)


def penalised(logits: Tensor, ids: list[int], penalty: float) -> Tensor:
    """The rule of ``RepetitionPenaltyLogitsProcessor``, written once more."""
    logits = logits.clone()
    for index in set(ids):
        logits[index] = logits[index] * (penalty if logits[index] < 0 else 1 / penalty)
    return logits


def greedy_after(model, prompt: Prompt, tokens: list[int], penalty: float = 1.0) -> list[int]:
    """The greedy token in each place of an answer, after those before it: one pass, no cache.

    The answer of the plain loop is the one that equals what this makes of it.
    """
    own = model.get_input_embeddings()(torch.tensor([tokens], dtype=torch.long))
    columns = torch.cat([prompt.columns, own], dim=1)
    given, length = prompt.columns.shape[1], columns.shape[1]
    sees = torch.ones(length, length, dtype=torch.bool).tril()
    if prompt.mask is not None:
        sees[:given, :given] = True
    masks = {"full_attention": sees, "sliding_attention": sees.triu(1 - WINDOW)}
    added = {
        kind: torch.zeros(1, 1, length, length).to(columns.dtype).masked_fill(~mask, float("-inf"))
        for kind, mask in masks.items()
    }
    if getattr(model.config, "layer_types", None) is None:
        sliding = getattr(model.config, "sliding_window", None) is not None
        added = added["sliding_attention" if sliding else "full_attention"]
    positions = torch.arange(length)[None]
    if prompt.positions is not None:
        following = prompt.next_position + torch.arange(len(tokens))
        rows = following.expand(*prompt.positions.shape[:-1], -1)
        positions = torch.cat([prompt.positions, rows], dim=-1)
    hidden = model.model(
        inputs_embeds=columns, attention_mask=added, position_ids=positions, use_cache=False
    ).last_hidden_state
    logits = model.lm_head(hidden[0, given - 1 : -1])
    before = [] if prompt.ids is None else prompt.ids.flatten().tolist()
    return [
        int(penalised(row, before + tokens[:place], penalty).argmax())
        for place, row in enumerate(logits)
    ]


def drafts_around(truth: list[int], seed: int, most: int = 7):
    """A function of the number of known tokens: trees that follow an answer for a while."""
    rng = random.Random(seed)

    def draft(known: int) -> DraftTree:
        chains = []
        for _ in range(rng.randint(0, 3)):
            chain = truth[known : known + rng.randint(0, most)]
            wrong = rng.random() < 0.6
            chains.append([rng.randrange(VOCABULARY) if wrong and rng.random() < 0.3 else token
                           for token in chain])  # fmt: skip
            chains[-1] += [rng.randrange(VOCABULARY) for _ in range(rng.randint(0, 2))]
        return DraftTree.from_chains(chains)

    return draft

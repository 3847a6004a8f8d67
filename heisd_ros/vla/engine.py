"""The network pass by pass: what the decoders call, whatever runs beneath.

`PlainEngine` runs any shape with a cache per prompt: the CPU's way, and the reference. On a GPU
`static_engine.StaticEngine` does the same in fixed shapes, replayed as CUDA graphs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from heisd_ros.vla.config import ACTION_DIMENSIONS
from heisd_ros.vla.language import KVCache
from heisd_ros.vla.model import VLAModel


class Draft(Protocol):
    """Drafted tokens, level by level; `decoding.tree.DraftTree` is one."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """[N] token ids."""
        ...

    @property
    def levels(self) -> tuple[int, ...]:
        """[N] level of each: those that follow what is certain are at 0."""
        ...

    def mask(self, device: torch.device) -> Tensor:
        """[N, N] boolean: a token sees its ancestors and itself."""
        ...


class Answers(NamedTuple):
    """What a pass says: after its last certain column, then after each drafted token.

    Attributes:
        greedy: [1 + N] the best id of each.
        logits: [1 + N, vocab]; until the next pass.
    """

    greedy: Tensor
    logits: Tensor


class PromptSequence(Protocol):
    """A prompt and what is decoded behind it."""

    @property
    def prompt_hidden(self) -> Tensor:
        """[1, T, hidden] of the prompt's columns, after the last norm; until the next prompt."""
        ...

    def extend(self, token: int | Tensor, draft: Draft | None = None) -> Answers:
        """Feed a token that is certain, with drafts behind it.

        Args:
            token: its id, or [1] on the device, where it may still be on its way.
            draft: at most as many tokens as `Engine.start` was told.
        """
        ...

    def keep(self, nodes: Sequence[int]) -> None:
        """Of the last pass's drafted tokens keep these, a path from a root on, and drop the rest.

        To be called after each pass that had drafts, if another one follows.
        """
        ...


class Engine(Protocol):
    """Runs the network, one control step after another.

    Attributes:
        model: the network.
    """

    model: VLAModel

    def vision(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [1, V, 6, S, S] -> visual features [1, V * N, D]."""
        ...

    def project(self, features: Tensor) -> Tensor:
        """Visual features [1, V * N, D] -> visual tokens [1, V * N, hidden]."""
        ...

    def start(
        self,
        prompt: Tensor,
        draft: Draft | None = None,
        room: int = 0,
    ) -> tuple[PromptSequence, Answers]:
        """The prefill, with drafts in it if there are some. Ends the sequence before.

        Args:
            prompt: [1, T, hidden] from `VLAModel.embed`.
            draft: drafts of the tokens from the first on.
            room: tokens of the largest draft that will come later.
        """
        ...


class PlainEngine:
    """Any shape, as it comes; keys and values in buffers that are allocated for each prompt.

    Args:
        model: the network.
    """

    def __init__(self, model: VLAModel) -> None:
        self.model = model

    def vision(self, pixels: Tensor) -> Tensor:
        """As `Engine.vision`."""
        return self.model.vision_features(pixels)

    def project(self, features: Tensor) -> Tensor:
        """As `Engine.project`."""
        return self.model.project(features)

    def start(
        self,
        prompt: Tensor,
        draft: Draft | None = None,
        room: int = 0,
    ) -> tuple[PlainSequence, Answers]:
        """As `Engine.start`."""
        drafted = len(draft.tokens) if draft is not None else 0
        capacity = prompt.shape[1] + max(drafted, room) + ACTION_DIMENSIONS
        sequence = PlainSequence(self.model, self.model.new_cache(1, capacity))
        answers = sequence.run(prompt, draft)
        return sequence, answers


class PlainSequence:
    """As `PromptSequence`, in a cache whose columns stand in the order of the sequence."""

    prompt_hidden: Tensor

    def __init__(self, model: VLAModel, cache: KVCache) -> None:
        self.cache = cache
        self._language = model.language_model
        self._end = 0  # of the columns that are certain

    def extend(self, token: int | Tensor, draft: Draft | None = None) -> Answers:
        """As `PromptSequence.extend`."""
        if not isinstance(token, Tensor):
            token = torch.tensor([token], device=self.cache.keys[0].device)
        return self.run(self._language.model.embed_tokens(token).unsqueeze(0), draft)

    def keep(self, nodes: Sequence[int]) -> None:
        """As `PromptSequence.keep`."""
        self.cache.keep(self._end, [self._end + node for node in nodes])

    def run(self, certain: Tensor, draft: Draft | None) -> Answers:
        """A pass over certain columns [1, T, hidden] and drafts behind them."""
        start, columns = self.cache.length, certain
        positions = mask = None
        if draft is not None and draft.tokens:
            ids = torch.tensor([draft.tokens], device=certain.device)
            columns = torch.cat([certain, self._language.model.embed_tokens(ids)], dim=1)
            positions, sees = _layout(start, certain.shape[1], draft, certain.device)
            # What attention adds to its scores: made here, or each layer makes it of `sees`.
            mask = torch.zeros_like(sees, dtype=columns.dtype).masked_fill_(~sees, -math.inf)
        hidden = self._language.model(columns, self.cache, positions, mask)
        if not start:
            self.prompt_hidden = hidden[:, : certain.shape[1]]
        self._end = start + certain.shape[1]
        logits = self._language.logits(hidden[0, certain.shape[1] - 1 :])
        return Answers(logits.argmax(dim=-1), logits)


def _layout(start: int, certain: int, draft: Draft, device: torch.device) -> tuple[Tensor, Tensor]:
    """Position ids [1, T] and mask [T, start + T] of certain columns and drafts behind them.

    Siblings share a position; a node sees what is certain, its ancestors and itself.
    """
    count = certain + len(draft.tokens)
    levels = torch.tensor(draft.levels, device=device)
    positions = torch.cat([torch.arange(certain, device=device), certain + levels]) + start
    mask = torch.ones(count, start + count, dtype=torch.bool, device=device).tril(start)
    mask[certain:, start + certain :] = draft.mask(device)
    return positions.unsqueeze(0), mask

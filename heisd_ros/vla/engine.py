"""The network pass by pass: what the decoders call, whatever runs beneath.

`PlainEngine` runs any shape with a cache per prompt: the CPU's way, and the reference. On a GPU
`static_engine.StaticEngine` does the same in fixed shapes, replayed as CUDA graphs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from heisd_ros.vla.action_codec import AnswerFormat
from heisd_ros.vla.llama import LanguageModel

Stage = Callable[[Tensor], Tensor]


class Network(Protocol):
    """What these engines run: a Llama decoder behind whatever makes its prompt.

    Attributes:
        language_model: the decoder and its LM head.
        answer: how its answers are written.
        prefix_columns: columns of a prompt that are no text, so how long prompts are beside it.
    """

    language_model: LanguageModel

    @property
    def answer(self) -> AnswerFormat: ...  # noqa: D102

    @property
    def prefix_columns(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Prompt:
    """What the language model reads before it answers.

    What only some families need is None elsewhere. `PlainEngine` and `StaticEngine` take columns
    alone, causal and at positions from 0; an engine of another family says what it takes.

    Attributes:
        columns: [1, T, hidden] input columns.
        ids: [1, T] token ids behind the columns, for a penalty on repetition.
        positions: [1, T] position ids, where they do not count from 0; [3, 1, T] for M-RoPE.
        next_position: position of the first token of the answer; None: T.
        mask: additive or boolean (true = may look), broadcastable to [1, heads, T, T], where the
            prompt is not causal.
    """

    columns: Tensor
    ids: Tensor | None = None
    positions: Tensor | None = None
    next_position: int | None = None
    mask: Tensor | None = None


def causal_columns(prompt: Prompt | Tensor) -> Tensor:
    """The columns [1, T, hidden] of a prompt that is nothing but causal columns from position 0.

    Raises:
        ValueError: it has positions or a mask of its own.
    """
    if isinstance(prompt, Tensor):
        return prompt
    if prompt.positions is not None or prompt.mask is not None or prompt.next_position is not None:
        raise ValueError("a prompt with positions or a mask of its own needs its family's engine")
    return prompt.columns


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


class PassLogits(NamedTuple):
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

    def extend(self, token: int | Tensor, draft: Draft | None = None) -> PassLogits:
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
    """Runs the network, one control step after another."""

    @property
    def answer(self) -> AnswerFormat:
        """How the network's answers are written."""
        ...

    def stage(self, function: Stage, value: Tensor) -> Tensor:
        """``function(value)``, replayed where the engine replays: what comes before the prompt.

        Args:
            function: of one tensor, always of the same shape; it reads nothing from the device.
            value: what it is called with.
        """
        ...

    def start(
        self,
        prompt: Prompt | Tensor,
        draft: Draft | None = None,
        room: int = 0,
    ) -> tuple[PromptSequence, PassLogits]:
        """The prefill, with drafts in it if there are some. Ends the sequence before.

        Args:
            prompt: what the model reads; a tensor is its columns [1, T, hidden].
            draft: drafts of the tokens from the first on.
            room: tokens of the largest draft that will come later.
        """
        ...


class PlainEngine:
    """Any shape, as it comes; keys and values in buffers that are allocated for each prompt.

    Args:
        model: the network.
    """

    def __init__(self, model: Network) -> None:
        self.model = model

    @property
    def answer(self) -> AnswerFormat:
        """As `Engine.answer`."""
        return self.model.answer

    def stage(self, function: Stage, value: Tensor) -> Tensor:
        """As `Engine.stage`."""
        return function(value)

    def start(
        self,
        prompt: Prompt | Tensor,
        draft: Draft | None = None,
        room: int = 0,
    ) -> tuple[PlainSequence, PassLogits]:
        """As `Engine.start`."""
        columns = causal_columns(prompt)
        drafted = len(draft.tokens) if draft is not None else 0
        capacity = columns.shape[1] + max(drafted, room) + self.answer.max_tokens
        sequence = PlainSequence(self.model, capacity)
        return sequence, sequence.run(columns, draft)


class PlainSequence:
    """As `PromptSequence`, in a cache whose columns stand in the order of the sequence."""

    prompt_hidden: Tensor

    def __init__(self, model: Network, capacity: int) -> None:
        self._language = model.language_model
        self.cache = self._language.new_cache(1, capacity)
        self._end = 0  # of the columns that are certain

    def extend(self, token: int | Tensor, draft: Draft | None = None) -> PassLogits:
        """As `PromptSequence.extend`."""
        if not isinstance(token, Tensor):
            token = torch.tensor([token], device=self.cache.keys[0].device)
        return self.run(self._language.embed_tokens(token).unsqueeze(0), draft)

    def keep(self, nodes: Sequence[int]) -> None:
        """As `PromptSequence.keep`."""
        self.cache.keep(self._end, [self._end + node for node in nodes])

    def run(self, certain: Tensor, draft: Draft | None) -> PassLogits:
        """A pass over certain columns [1, T, hidden] and drafts behind them."""
        start, columns = self.cache.length, certain
        positions = mask = None
        if draft is not None and draft.tokens:
            ids = torch.tensor([draft.tokens], device=certain.device)
            columns = torch.cat([certain, self._language.embed_tokens(ids)], dim=1)
            positions, sees = _layout(start, certain.shape[1], draft, certain.device)
            # What attention adds to its scores: made here, or each layer makes it of `sees`.
            mask = torch.zeros_like(sees, dtype=columns.dtype).masked_fill_(~sees, -math.inf)
        hidden = self._language.model(columns, self.cache, positions, mask)
        if not start:
            self.prompt_hidden = hidden[:, : certain.shape[1]]
        self._end = start + certain.shape[1]
        logits = self._language.logits(hidden[0, certain.shape[1] - 1 :])
        return PassLogits(logits.argmax(dim=-1), logits)


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

"""Engines, which run the network pass by pass: the interface that decoders call.

`PlainEngine` runs any shape with a cache per prompt; it is used on CPUs and as the reference. On a
GPU `static_engine.StaticEngine` does the same in fixed shapes, replayed as CUDA graphs.
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
    """The network that these engines run: a Llama decoder, behind any encoder of its prompt.

    Attributes:
        language_model: the decoder and its LM head.
        answer: format of its answers.
        prefix_columns: number of columns of a prompt that are not text.
    """

    language_model: LanguageModel

    @property
    def answer(self) -> AnswerFormat: ...  # noqa: D102

    @property
    def prefix_columns(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Prompt:
    """The input of the language model before the answer.

    Fields that only some families need are None for others. `PlainEngine` and `StaticEngine` accept
    only columns, causal and at positions from 0; engines of other families state what they accept.

    Attributes:
        columns: [1, T, hidden] input columns.
        ids: [1, T] token ids of the columns, for a repetition penalty.
        positions: [1, T] position ids, if they do not count from 0; [3, 1, T] for M-RoPE.
        next_position: position of the first token of the answer; None: T.
        mask: additive or boolean (true = may attend), broadcastable to [1, heads, T, T], if the
            prompt is not causal.
        begun: the last ids of the prompt that are the beginning of the answer (`followed_by`).
    """

    columns: Tensor
    ids: Tensor | None = None
    positions: Tensor | None = None
    next_position: int | None = None
    mask: Tensor | None = None
    begun: tuple[int, ...] = ()

    def followed_by(self, columns: Tensor, ids: Tensor) -> Prompt:
        """Returns this prompt with the beginning of an answer behind it.

        Args:
            columns: [1, N, hidden] input columns of the beginning.
            ids: [1, N] its token ids.

        Raises:
            ValueError: the prompt has its own positions or mask.
        """
        own = causal_columns(self)
        joined = None if self.ids is None else torch.cat([self.ids, ids], dim=1)
        begun = (*self.begun, *ids[0].tolist())
        return Prompt(torch.cat([own, columns.to(own.dtype)], dim=1), joined, begun=begun)


def causal_columns(prompt: Prompt | Tensor) -> Tensor:
    """Returns the columns [1, T, hidden] of a prompt that is causal with positions from 0.

    Raises:
        ValueError: the prompt has its own positions or mask.
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
        """[N], the drafted token ids."""
        ...

    @property
    def levels(self) -> tuple[int, ...]:
        """[N], the level of each token; those that follow the certain columns are at 0."""
        ...

    def mask(self, device: torch.device) -> Tensor:
        """Returns the attention mask [N, N], boolean: a token sees its ancestors and itself."""
        ...


class PassLogits(NamedTuple):
    """The output of a pass: after its last certain column, then after each drafted token.

    Attributes:
        greedy: [1 + N], the best id of each row.
        logits: [1 + N, vocab], valid until the next pass.
        hidden: [1 + N, hidden], the last hidden states that they were read from, likewise.
    """

    greedy: Tensor
    logits: Tensor
    hidden: Tensor


class PromptSequence(Protocol):
    """A prompt and the tokens decoded after it."""

    @property
    def prompt_hidden(self) -> Tensor:
        """[1, T, hidden], states of the prompt after the last norm; valid until the next prompt."""
        ...

    def extend(self, token: int | Tensor, draft: Draft | None = None) -> PassLogits:
        """Feeds a certain token, followed by drafts.

        Args:
            token: its id, or a tensor [1] on the device, whose value may not be known yet.
            draft: at most as many tokens as the `room` of `Engine.start`.
        """
        ...

    def keep(self, nodes: Sequence[int]) -> None:
        """Keeps these drafted tokens of the last pass, a path from a root on, and drops the rest.

        Call it after each pass that had drafts, if another pass follows.
        """
        ...


class Engine(Protocol):
    """Runs the network, one control step after another."""

    @property
    def answer(self) -> AnswerFormat:
        """The format of the network's answers."""
        ...

    def stage(self, function: Stage, value: Tensor) -> Tensor:
        """Runs ``function(value)``, replayed if the engine replays: a stage before the prompt.

        Args:
            function: a function of one tensor of fixed shape; it must not wait for the device.
            value: its argument.
        """
        ...

    def start(
        self,
        prompt: Prompt | Tensor,
        draft: Draft | None = None,
        room: int = 0,
    ) -> tuple[PromptSequence, PassLogits]:
        """Runs the prefill, with drafts in it if given. It ends the previous sequence.

        Args:
            prompt: the prompt; a tensor holds its columns [1, T, hidden].
            draft: drafts of the tokens from the first on.
            room: tokens of the largest draft that will follow.
        """
        ...


class PlainEngine:
    """Runs any shape directly; keys and values are in buffers allocated for each prompt."""

    def __init__(self, model: Network) -> None:
        self.model = model

    @property
    def answer(self) -> AnswerFormat:
        """Implements `Engine.answer`."""
        return self.model.answer

    def stage(self, function: Stage, value: Tensor) -> Tensor:
        """Implements `Engine.stage`."""
        return function(value)

    def start(
        self,
        prompt: Prompt | Tensor,
        draft: Draft | None = None,
        room: int = 0,
    ) -> tuple[PlainSequence, PassLogits]:
        """Implements `Engine.start`."""
        columns = causal_columns(prompt)
        drafted = len(draft.tokens) if draft is not None else 0
        capacity = columns.shape[1] + max(drafted, room) + self.answer.max_tokens
        sequence = PlainSequence(self.model, capacity)
        return sequence, sequence.run(columns, draft)


class PlainSequence:
    """Implements `PromptSequence`, with cache columns in the order of the sequence."""

    prompt_hidden: Tensor

    def __init__(self, model: Network, capacity: int) -> None:
        self._language = model.language_model
        self.cache = self._language.new_cache(1, capacity)
        self._end = 0  # of the columns that are certain

    def extend(self, token: int | Tensor, draft: Draft | None = None) -> PassLogits:
        """Implements `PromptSequence.extend`."""
        if not isinstance(token, Tensor):
            token = torch.tensor([token], device=self.cache.keys[0].device)
        return self.run(self._language.embed_tokens(token).unsqueeze(0), draft)

    def keep(self, nodes: Sequence[int]) -> None:
        """Implements `PromptSequence.keep`."""
        self.cache.keep(self._end, [self._end + node for node in nodes])

    def run(self, certain: Tensor, draft: Draft | None) -> PassLogits:
        """Runs a pass over certain columns [1, T, hidden], followed by drafts."""
        start, columns = self.cache.length, certain
        positions = mask = None
        if draft is not None and draft.tokens:
            ids = torch.tensor([draft.tokens], device=certain.device)
            columns = torch.cat([certain, self._language.embed_tokens(ids)], dim=1)
            positions, sees = _layout(start, certain.shape[1], draft, certain.device)
            # The bias of the attention scores, made once here instead of in each layer.
            mask = torch.zeros_like(sees, dtype=columns.dtype).masked_fill_(~sees, -math.inf)
        hidden = self._language.model(columns, self.cache, positions, mask)
        if not start:
            self.prompt_hidden = hidden[:, : certain.shape[1]]
        self._end = start + certain.shape[1]
        read = hidden[0, certain.shape[1] - 1 :]
        logits = self._language.logits(read)
        return PassLogits(logits.argmax(dim=-1), logits, read)


def _layout(start: int, certain: int, draft: Draft, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns position ids [1, T] and mask [T, start + T] of certain columns and drafts.

    Siblings share a position; a node sees the certain columns, its ancestors and itself.
    """
    count = certain + len(draft.tokens)
    levels = torch.tensor(draft.levels, device=device)
    positions = torch.cat([torch.arange(certain, device=device), certain + levels]) + start
    mask = torch.ones(count, start + count, dtype=torch.bool, device=device).tril(start)
    mask[certain:, start + certain :] = draft.mask(device)
    return positions.unsqueeze(0), mask

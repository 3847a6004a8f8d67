"""The network in fixed shapes: static KV cache, buckets, programs replayed as CUDA graphs.

Every pass is one of a few programs. A prompt is padded to a bucket of columns, drafts to a bucket
of drafted tokens. The slot of each column in the cache, its position and what it sees are given in
one small tensor, the *plan*, so the same program serves every prompt and every tree.

    cache     | prompt, padded | drafted and decoded columns | spare |
    plan      [1 + D, 3 + slots]: token, position, slot, then 1 for each slot that the column sees

Nothing is moved in the cache: an accepted draft's slots become visible to later passes, those of a
rejected one are overwritten. Slots need not be in order, since keys carry their positions.

No pass waits for the device. A step reads tokens once at its end, or once for each verification
that decides how it continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import FunctionType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heisd_ros.vla.action_codec import AnswerFormat
from heisd_ros.vla.cuda_graphs import Capture, Program, capture_for
from heisd_ros.vla.engine import (
    Draft,
    Network,
    PassLogits,
    PlainEngine,
    Prompt,
    PromptSequence,
    Stage,
    causal_columns,
)
from heisd_ros.vla.llama import KVCache

PROMPT_STEP = 16
"""Prompts are padded to a multiple of this many columns."""
LONGEST_TEXT = 96
"""Text tokens of the longest prompt that is run in fixed shapes."""
DRAFT_BUCKETS = (0, 6, 14, 24), (0, 24, 40, 72, 128)
"""Drafted tokens are padded to the next of these, by the largest draft of a step. Actions: none,
one chain, two or a redraft, a tree. Otherwise: models that reason draft their last answer, about 70
tokens, and then trees of 24 to 40. Each bucket costs two programs, so there are few."""
LARGEST_DRAFT = DRAFT_BUCKETS[-1][-1]

_ALIGNMENT = 16  # of the slots: fused attention wants rows of a mask to be aligned
_TOKEN, _POSITION, _SLOT, _SEES = range(4)  # columns of a plan


@dataclass(frozen=True)
class _Shape:
    """The shape of a program.

    Attributes:
        prompt: columns of the prompt, padded; 0 in a pass after it.
        draft: drafted tokens, padded.
        slots: number of cache slots in use.
    """

    prompt: int
    draft: int
    slots: int


@dataclass(frozen=True)
class _Stage:
    """A captured function of one tensor, and the buffer that it reads."""

    value: Tensor
    program: Program


@dataclass(frozen=True)
class _Pass:
    """A captured program and the plan that it reads."""

    plan: Tensor
    program: Program


class StaticEngine:
    """Implements `Engine`, in fixed shapes. Prompts and drafts beyond the largest are run plainly.

    It runs one prompt at a time: starting the next ends the previous one.

    Args:
        model: the network.
        capture: makes a program fast to call again (None: CUDA graphs on a GPU).
        compiler: a backend of ``torch.compile`` for all programs, which gain from fused small
            kernels (None: nothing is compiled). The network must not change afterwards. A program
            takes half a minute or more, so the first prompt with a larger `room` than before
            compiles all that it may need, for every prompt that was prepared; later ones are given
            as much room.
        prompts: numbers of columns of the prompts that will come (empty: unknown). With a compiler
            those of another bucket run as they are, so that no step waits.
    """

    def __init__(
        self,
        model: Network,
        capture: Capture | None = None,
        compiler: str | None = None,
        prompts: Sequence[int] = (),
    ) -> None:
        self.model = model
        weight = model.language_model.lm_head.weight
        self._device, self._dtype = weight.device, weight.dtype
        self._capture = capture or capture_for(self._device)
        self._compiler = compiler
        self._expected = set(map(prompt_bucket, prompts))
        self._plain = PlainEngine(model)
        config = model.language_model.model.config
        room = config.max_position_embeddings - model.answer.max_tokens
        columns = min(1 + model.prefix_columns + LONGEST_TEXT + PROMPT_STEP - 1, room)
        self.longest_prompt = columns // PROMPT_STEP * PROMPT_STEP
        slots = self.slots_for(self.longest_prompt, LARGEST_DRAFT)
        # Zeros: what a mask hides must still be finite, since 0 * NaN is NaN.
        self._cache = model.language_model.new_cache(1, slots)
        for buffer in (*self._cache.keys, *self._cache.values):
            buffer.zero_()
        shape = 1, self.longest_prompt, config.hidden_size
        self._prompt = torch.zeros(shape, dtype=self._dtype, device=self._device)
        # Or the first program would build the table, at every call and with a compiler's rounding.
        model.language_model.model.rotary(torch.zeros(1, 1).long().to(self._device), self._dtype)
        self._prepared: set[int] = set()  # buckets of prompts
        self._room = 0  # tokens of the largest draft for which passes are compiled
        self._stages: dict[tuple[Stage, torch.Size], _Stage] = {}
        self._passes: dict[_Shape, _Pass] = {}

    @property
    def answer(self) -> AnswerFormat:
        """Implements `Engine.answer`."""
        return self.model.answer

    @torch.inference_mode()
    def stage(self, function: Stage, value: Tensor) -> Tensor:
        """Implements `Engine.stage`."""
        key = function, value.shape
        if key not in self._stages:
            buffer = torch.zeros_like(value)
            program = self._compiled(lambda: (function(buffer),))
            self._stages[key] = _Stage(buffer, self._capture(program))
        stage = self._stages[key]
        stage.value.copy_(value)
        (result,) = stage.program()
        return result.clone()  # a decoder may keep it for longer than until the next step

    @torch.inference_mode()
    def start(
        self,
        prompt: Prompt | Tensor,
        draft: Draft | None = None,
        room: int = 0,
    ) -> tuple[PromptSequence, PassLogits]:
        """Implements `Engine.start`."""
        given = causal_columns(prompt)
        columns = given.shape[1]
        room = max(room, len(draft.tokens) if draft is not None else 0)
        begun = self._compiler is not None and isinstance(prompt, Prompt) and prompt.begun
        if begun or not self._fits(columns, room):
            return self._plain.start(given, draft, room)
        if self._compiler is not None:
            room = self._room_after(room)
            self.prepare([columns], room)
            self._room = room
        self._prompt[:, :columns].copy_(given)
        sequence = StaticSequence(self, columns, room)
        return sequence, sequence.prefill(draft)

    def _fits(self, columns: int, room: int) -> bool:
        """Whether a prompt and its drafts have programs, or may be given some now."""
        known = not self._expected or prompt_bucket(columns) in self._expected
        fixed = columns <= self.longest_prompt and room <= LARGEST_DRAFT
        return fixed and (known or self._compiler is None)

    def _room_after(self, room: int) -> int:
        """Returns the room for which passes are compiled; with a draft, for any answer as one."""
        if room and not self.answer.counted:
            room = max(room, min(self.answer.max_tokens, LARGEST_DRAFT))
        return max(self._room, room)

    @torch.inference_mode()
    def prepare(self, columns: Sequence[int], room: int = 0) -> None:
        """Captures or compiles programs in advance, before the first step that needs them.

        Args:
            columns: lengths of expected prompts, beside those that were prepared before; those that
                no bucket fits are left out.
            room: tokens of the largest draft, in the prefill or after it; all smaller ones fit too.
        """
        self._prepared.update(prompt_bucket(n) for n in columns if n <= self.longest_prompt)
        largest = draft_bucket(room, room)
        drafts = [bucket for bucket in draft_buckets(room) if bucket <= largest]
        for prompt in sorted(self._prepared):
            slots = self.slots_for(prompt, room)
            for draft in drafts:
                for prefilled in (prompt, 0):
                    shape = _Shape(prefilled, draft, slots)
                    if shape not in self._passes:
                        made = self._made(shape)
                        made.program()  # now it compiles; it writes where a capture would
                        self._passes[shape] = made

    def pass_of(self, prompt: int, draft: int, slots: int) -> _Pass:
        """Returns the program of a shape, captured on first use."""
        shape = _Shape(prompt, draft, slots)
        if shape not in self._passes:
            self._passes[shape] = self._made(shape)
        return self._passes[shape]

    def _made(self, shape: _Shape) -> _Pass:
        # A capture runs the program: it must write finite values where they harm no prompt.
        size = 1 + shape.draft, _SEES + shape.slots
        plan = torch.ones(size, dtype=torch.long, device=self._device)
        plan[:, _SLOT] = shape.slots - 1
        program = self._prefill(shape, plan) if shape.prompt else self._extend(shape, plan)
        return _Pass(plan, self._capture(self._compiled(program)))

    def _prefill(self, shape: _Shape, plan: Tensor) -> Program:
        """Runs the prompt, then drafts; the plan's first row holds the prompt's last position.

        Padding follows the prompt's last column, so the causal mask hides it from the prompt, and
        the plan hides it from the drafts.
        """
        language = self.model.language_model
        columns = torch.arange(shape.prompt, device=self._device)
        sees = torch.arange(shape.slots, device=self._device) <= columns.unsqueeze(1)

        def program() -> tuple[Tensor, ...]:
            last, drafts = plan[:1, _POSITION], plan[1:]
            embeds = torch.cat(
                [
                    self._prompt[:, : shape.prompt],
                    language.embed_tokens(drafts[:, _TOKEN]).unsqueeze(0),
                ],
                dim=1,
            )
            hidden = language.model.run(
                embeds,
                torch.cat([columns, drafts[:, _POSITION]]).unsqueeze(0),
                self._bias(torch.cat([sees, drafts[:, _SEES:].bool()])),
                _Window(self._cache, torch.cat([columns, drafts[:, _SLOT]]), shape.slots),
            )
            read = torch.cat([hidden[0].index_select(0, last), hidden[0, shape.prompt :]])
            logits = language.logits(read)
            return logits.argmax(dim=-1), logits, read, hidden[:, : shape.prompt]

        return program

    def _extend(self, shape: _Shape, plan: Tensor) -> Program:
        """Runs one certain token, followed by drafts."""
        language = self.model.language_model

        def program() -> tuple[Tensor, ...]:
            hidden = language.model.run(
                language.embed_tokens(plan[:, _TOKEN]).unsqueeze(0),
                plan[:, _POSITION].unsqueeze(0),
                self._bias(plan[:, _SEES:].bool()),
                _Window(self._cache, plan[:, _SLOT], shape.slots),
            )
            logits = language.logits(hidden[0])
            return logits.argmax(dim=-1), logits, hidden[0]

        return program

    def _compiled(self, program: Program) -> Program:
        if self._compiler is None:
            return program
        assert isinstance(program, FunctionType)
        # PyTorch compiles a code object eight times at most, searches the results at every call,
        # and compiles again where the number of threads differs. So each program has one of its
        # own and one result: buffers and shapes are fixed, and no step waits for a compiler.
        code, around = program.__code__.replace(), program.__globals__
        own = FunctionType(code, around, program.__name__, closure=program.__closure__)
        unguarded = getattr(torch.compiler, "skip_all_guards_unsafe", None)
        compiled: Program = torch.compile(
            own,
            backend=self._compiler,
            fullgraph=True,
            dynamic=False,
            options={"guard_filter_fn": unguarded} if unguarded else None,
        )
        return compiled

    def _bias(self, sees: Tensor) -> Tensor:
        """[T, slots] boolean -> what attention adds to its scores, made once for all layers."""
        bias = torch.zeros(sees.shape, dtype=self._dtype, device=self._device)
        return bias.masked_fill_(~sees, float("-inf"))

    def slots_for(self, columns: int, room: int) -> int:
        """Returns the slots for a prompt, the answer and a draft, all padded, and a spare one.

        Expected prompts are given as many, since they then share the passes behind a prompt.
        """
        prompt = max(prompt_bucket(columns), *self._expected, 0)
        slots = prompt + self.answer.max_tokens + draft_buckets(room)[-1] + 1
        return _round_up(slots, _ALIGNMENT)


class StaticSequence:
    """Implements `PromptSequence`: which slots are taken, and the plans of the passes.

    Args:
        engine: runs the passes; it holds the prompt already.
        columns: of the prompt.
        room: tokens of the largest draft.
    """

    prompt_hidden: Tensor

    def __init__(self, engine: StaticEngine, columns: int, room: int) -> None:
        self._engine = engine
        self._columns, self._bucket = columns, prompt_bucket(columns)
        self._room, self._slots = room, engine.slots_for(columns, room)
        self._certain = np.zeros(self._slots, bool)
        self._certain[:columns] = True
        self._position = columns  # of the next token
        self._drafted: NDArray[np.int64] = np.zeros(0, np.int64)  # slots of the last pass's drafts

    def prefill(self, draft: Draft | None) -> PassLogits:
        """Runs the pass over the prompt, with the draft's tokens in it if there is one."""
        first = (0, self._columns - 1, 0)  # of which only the position is read
        said, (hidden,) = self._run(self._bucket, first, self._free(), draft)
        self.prompt_hidden = hidden[:, : self._columns]
        return said

    def extend(self, token: int | Tensor, draft: Draft | None = None) -> PassLogits:
        """Implements `PromptSequence.extend`."""
        slot, *free = self._free()
        self._certain[slot] = True
        first = (token, self._position, slot)
        self._position += 1
        return self._run(0, first, free, draft)[0]

    def keep(self, nodes: Sequence[int]) -> None:
        """Implements `PromptSequence.keep`."""
        self._certain[self._drafted[list(nodes)]] = True
        self._position += len(nodes)

    def _free(self) -> list[int]:
        """Returns the slots after the prompt that hold no certain token, without the spare one."""
        tail: list[int] = np.flatnonzero(~self._certain[self._bucket : -1]).tolist()
        return [self._bucket + slot for slot in tail]

    def _run(
        self,
        prompt: int,
        first: tuple[int | Tensor, int, int],
        free: list[int],
        draft: Draft | None,
    ) -> tuple[PassLogits, list[Tensor]]:
        """Writes the plan and runs the pass; returns its output without padding, and the rest."""
        drafted = len(draft.tokens) if draft is not None else 0
        run = self._engine.pass_of(prompt, draft_bucket(drafted, self._room), self._slots)
        token, position, slot = first
        plan = np.zeros(run.plan.shape, np.int64)
        # Padding sees what is certain, so that it stays finite, and is written to the spare slot.
        plan[:, _SEES:] = self._certain
        plan[:, _POSITION], plan[:, _SLOT] = position, self._slots - 1
        plan[0, _SLOT] = slot
        self._drafted = np.array(free[:drafted], np.int64)
        if draft is not None and drafted:
            rows = plan[1 : 1 + drafted]
            rows[:, _TOKEN], rows[:, _SLOT] = draft.tokens, self._drafted
            rows[:, _POSITION] = self._position + np.array(draft.levels)
            rows[:, _SEES + self._drafted] = draft.mask(torch.device("cpu")).numpy()
        if not isinstance(token, Tensor):
            plan[0, _TOKEN] = token
        _upload(run.plan, plan)
        if isinstance(token, Tensor):
            run.plan[0, _TOKEN : _TOKEN + 1].copy_(token)
        greedy, logits, hidden, *rest = run.program()
        count = 1 + drafted
        return PassLogits(greedy[:count].clone(), logits[:count], hidden[:count]), rest


def prompt_bucket(columns: int) -> int:
    """Returns the padded number of columns of a prompt."""
    return _round_up(columns, PROMPT_STEP)


def draft_buckets(room: int) -> tuple[int, ...]:
    """Returns the padded numbers of drafted tokens in a step whose largest draft is given."""
    return next(buckets for buckets in DRAFT_BUCKETS if buckets[-1] >= room)


def draft_bucket(tokens: int, room: int) -> int:
    """Returns the padded number of drafted tokens in a step whose largest draft is `room`."""
    return next(bucket for bucket in draft_buckets(room) if bucket >= tokens)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _upload(target: Tensor, values: NDArray[np.int64]) -> None:
    """Uploads without waiting: pinned memory is not reused before it has been read."""
    source = torch.from_numpy(values)
    target.copy_(source.pin_memory() if target.is_cuda else source, non_blocking=True)


class _Window:
    """The static cache as a pass sees it: new columns go to given slots, all slots are returned."""

    def __init__(self, cache: KVCache, slots: Tensor, count: int) -> None:
        self._cache, self._slots, self._count = cache, slots, count

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores columns [1, key heads, T, width]; returns all [1, key heads, slots, width]."""
        k = self._cache.keys[layer].narrow(2, 0, self._count)
        v = self._cache.values[layer].narrow(2, 0, self._count)
        return k.index_copy_(2, self._slots, keys), v.index_copy_(2, self._slots, values)

"""Executes chunks: which action of a model's answers is due at a time.

A model may answer with the actions of several control steps. They are executed one control step
each, while the model decides the next ones. A new chunk starts at the step of the running one that
begins next, and at the action for that time: as many of its actions are left out as the arm has
executed since the observation. So no motion is executed twice, and an arm that stood still while
the model decided executes a chunk from its first action.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from heisd_ros.decoding.types import ChunkPlace, Decoder, Observation, StepResult
from heisd_ros.decoding.wrapper import DecoderWrapper

Answer = TypeVar("Answer")

DELAYS = 5
"""Number of newest chunks whose largest delay is expected of the next one."""
_RUNS = 8
_ENDLESS = 2**62


class ChunkUse(NamedTuple):
    """How much of a chunk is executed.

    Attributes:
        execute: How many of its first actions; 0: all.
        blend: Actions over which it is faded in.
    """

    execute: int = 0
    blend: int = 0


@dataclass(frozen=True)
class Due(Generic[Answer]):
    """An action that begins now.

    Attributes:
        action: [D], robot units.
        place: its place in its chunk.
        first: whether no other action of the chunk was executed before it.
        answer: what the chunk was given with.
    """

    action: NDArray[np.float64]
    place: ChunkPlace
    first: bool
    answer: Answer


@dataclass
class _Chunk(Generic[Answer]):
    """A chunk with its schedule; times are ns. Action i is for origin + i * step."""

    actions: NDArray[np.float64]
    length: int
    step: int
    origin: int
    start: int
    delay: int
    answer: Answer

    @property
    def end(self) -> int:
        """When its last action is over: an action alone lasts until the next chunk."""
        return _ENDLESS if self.length == 1 else self.origin + self.length * self.step

    def index(self, now: int) -> int:
        """Returns the index of the action for a time; it may lie behind the last one."""
        return 0 if self.length == 1 else (now - self.origin) // self.step

    def boundary(self, now: int) -> int:
        """Returns when an action begins, now or next."""
        return now + (self.origin - now) % self.step


class ChunkExecutor(Generic[Answer]):
    """Decides which action is due, over any number of chunks.

    Times are whole nanoseconds on one clock that never runs backwards. A chunk of which one action
    is executed has no schedule: its action counts until the next one comes, as that of a model
    that answers with one.

    Args:
        step_ns: Duration of a control step, ns.
        execute: How many of a chunk's first actions may be executed; 0: all.
        blend: Actions over which a new chunk is faded in while another one runs. The last number of
            an action, the gripper, is not.

    Attributes:
        begun: Chunks begun so far.
        late: Chunks that were dropped since the time of all their actions was past.
    """

    def __init__(self, step_ns: int, execute: int = 0, blend: int = 0) -> None:
        self._step, self._execute, self._blend = step_ns, execute, blend
        self.begun = self.late = 0
        self._running: _Chunk[Answer] | None = None
        self._next: _Chunk[Answer] | None = None
        self._index: int | None = None  # of the newest action
        self._awaited = ""
        self._runs: deque[tuple[int, int]] = deque(maxlen=_RUNS)  # when the arm executed others
        self._delays: deque[int] = deque(maxlen=DELAYS)

    def take(self, actions: NDArray[np.float64], observed: int, now: int, answer: Answer) -> bool:
        """Takes a chunk; it begins now, or with the next action of the one that runs.

        Args:
            actions: [H, D], H at least 1.
            observed: When the observation that it answers was made.
            now: The time.
            answer: Returned with each of its actions.

        Returns:
            Whether any of its actions is still to come.
        """
        length = min(self._execute or len(actions), len(actions))
        start = self._start(now)
        # The nearest action: half a step of error at most.
        skipped = (self._moved(observed, start) + self._step // 2) // self._step
        index = 0 if length == 1 else skipped
        self._delays.append(now - observed)
        if index >= length:
            self.late += 1
            return False
        self._next = _Chunk(
            actions=self._faded(actions, index, length, start),
            length=length,
            step=self._step,
            origin=start - index * self._step,
            start=start,
            delay=start - observed,
            answer=answer,
        )
        return True

    def advance(self, now: int) -> Due[Answer] | None:
        """Returns the action that begins now; None if none does. Each is returned once at most."""
        if self._next is not None and now >= self._next.start:
            self._retire(self._next.start)
            self._running, self._next = self._next, None
            self._index, self._awaited = None, ""
            self.begun += 1
        chunk = self._running
        if chunk is None:
            return None
        index = chunk.index(now)
        if index >= chunk.length:
            self._awaited = f"all {chunk.length} actions of the chunk are executed"
            return None
        if index == self._index:
            return None
        first, self._index = self._index is None, index
        place = ChunkPlace(self.begun, index, chunk.length, chunk.delay / 1e9)
        return Due(chunk.actions[index], place, first, chunk.answer)

    def drop(self, now: int, why: str = "the chunk was dropped") -> None:
        """Drops what is left of every chunk: none of it is executed later."""
        if self._running is not None and self._running.length > 1:
            self._awaited = self._awaited or why
        self._retire(now)
        self._running = self._next = None

    @property
    def awaited(self) -> str:
        """Why there is no action although there was a chunk of several; empty otherwise."""
        return self._awaited

    def wants_next(self, now: int) -> bool:
        """Whether the model should decide the next chunk now.

        So early that it comes before this one ends, as long as the newest ones took. A model that
        takes longer than a whole chunk lasts is asked at the end: asked earlier, it would see the
        arm before a motion that is over when it answers.
        """
        if self._next is not None:
            return False
        chunk = self._running
        if chunk is None or chunk.length == 1:
            return True
        whole, needed = chunk.length * self._step, max(self._delays) + self._step
        ahead = min(needed, whole // 2) if needed <= whole else 0
        return chunk.end - now <= ahead

    def next_change(self, now: int) -> int | None:
        """Returns when the next action of the running chunk begins, or it ends; None: never."""
        chunk = self._running
        if chunk is None or chunk.length == 1 or now >= chunk.end:
            return None
        return chunk.boundary(now + 1)

    def _start(self, now: int) -> int:
        """When a new chunk begins: with the next action of the running one, if it has any."""
        chunk = self._running
        if chunk is None or chunk.length == 1 or now >= chunk.end:
            return now
        return chunk.boundary(now + 1 if chunk.index(now) == self._index else now)

    def _retire(self, now: int) -> None:
        if self._running is not None:
            self._runs.append((self._running.start, min(now, self._running.end)))

    def _moved(self, since: int, until: int) -> int:
        """How long the arm has executed chunks between two times, ns."""
        runs = list(self._runs)
        if self._running is not None:
            runs.append((self._running.start, min(until, self._running.end)))
        return sum(max(0, min(end, until) - max(begin, since)) for begin, end in runs)

    def _faded(
        self, actions: NDArray[np.float64], index: int, length: int, start: int
    ) -> NDArray[np.float64]:
        """Fades a chunk in, from what the running one would do at the same times."""
        before = self._running
        if before is None or self._blend == 0:
            return actions
        faded = np.array(actions, np.float64)
        for n in range(min(self._blend, length - index)):
            old = before.actions[min(before.index(start + n * self._step), len(before.actions) - 1)]
            share = (n + 1) / (self._blend + 1)
            row = faded[index + n]
            row[:-1] = (1.0 - share) * old[:-1] + share * row[:-1]
        return faded


def step_of(due: Due[Answer], result: StepResult) -> StepResult:
    """Returns the step of an action: of the first the whole result, of a later one what it costs.

    Args:
        due: The action.
        result: What its chunk came with.
    """
    if due.first:
        return replace(result, action=due.action, chunk=None, place=result.place or due.place)
    return StepResult(
        action=due.action,
        tokens=(),
        source=result.source,
        reason=f"action {due.place.index + 1} of a chunk of {due.place.length}",
        timings_ms={"total": 0.0},
        passes=0,
        place=due.place,
    )


class ChunkedDecoder(DecoderWrapper):
    """Executes the chunks of a decoder in step with the observations, one action for each.

    For a simulation in lock-step, an evaluation and a replay: the model takes none of their time,
    and decides when a chunk has ended.

    Args:
        decoder: The decoder that decides.
        execute: How many of a chunk's first actions are executed; 0: all.
        blend: Actions over which a chunk is faded in.
    """

    def __init__(self, decoder: Decoder, execute: int = 0, blend: int = 0) -> None:
        super().__init__(decoder)
        self._chunks: ChunkExecutor[StepResult] = ChunkExecutor(1, execute, blend)
        self._least = max(1, execute, blend)
        self._step = 0
        self._dropped = False

    def infer(self, observation: Observation) -> StepResult:
        """Returns the action of this step; runs the decoder if there is no chunk.

        A result that cannot be executed, or has too few actions, is returned as it is.
        """
        self._step += 1
        if self._dropped:
            self._dropped = False
            self._chunks.drop(self._step)
        due = self._chunks.advance(self._step)
        if due is None:
            result = super().infer(observation)
            short = len(result.actions) < self._least
            if result.problem or short or not np.isfinite(result.actions).all():
                self._chunks.drop(self._step)
                return result
            self._chunks.take(result.actions, self._step, self._step, result)
            due = self._chunks.advance(self._step)
            assert due is not None, "a chunk begins as soon as none runs"
        return step_of(due, due.answer)

    def drop(self) -> None:
        """Drops what is left of the chunk, as a hold does; any thread may call it."""
        self._dropped = True

    def reset(self, success: bool | None = None) -> None:
        """Drops what is left of the chunk and resets the decoder."""
        self.drop()
        super().reset(success)

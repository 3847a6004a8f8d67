"""Chunks are executed once, at their time, and never after a hold, whatever the delays."""

from __future__ import annotations

from dataclasses import astuple
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heisd_ros.decoding.chunks import ChunkedDecoder, ChunkExecutor
from heisd_ros.decoding.types import StepResult

STEP = 1000


class Chunk(NamedTuple):
    """An answer: when its observation was made, and when it came."""

    number: int
    observed: int
    taken: int


class Begun(NamedTuple):
    """An action as it was executed."""

    at: int
    chunk: Chunk
    index: int


def chunk_of(number, actions, size=3):
    """Actions that say which they are."""
    return np.array([[number, index, 0.0][:size] for index in range(actions)], np.float64)


class Arm:
    """Runs an executor as the node does: ticks, inferences that take their time, and holds."""

    def __init__(self, executor, actions, delays, tick):
        self.executor, self.actions, self.tick = executor, actions, tick
        self.delays = iter(delays)
        self.now = self.count = 0
        self.begun, self.drops, self.chunks, self.ends = [], [], [], {}
        self.pending = None

    def run(self, until, drops=()):
        drops = sorted(drops)
        while self.now < until:
            self.now += self.tick
            while drops and drops[0] <= self.now:
                drops.pop(0)
                self.executor.drop(self.now)
                self.drops.append(self.now)
            if self.pending and self.pending[1] <= self.now:
                observed, due = self.pending
                self.pending = None
                self.count += 1
                chunk = Chunk(self.count, observed, self.now)
                self.chunks.append(chunk)
                self.executor.take(chunk_of(self.count, self.actions), observed, self.now, chunk)
            due = self.executor.advance(self.now)
            if due is not None:
                assert due.action[0] == due.answer.number and due.action[1] == due.place.index
                self.begun.append(Begun(self.now, due.answer, due.place.index))
            if self.pending is None and self.executor.wants_next(self.now):
                delay = next(self.delays, None)
                if delay is not None:
                    self.pending = self.now, self.now + delay


def of_chunk(begun, number):
    return [each for each in begun if each.chunk.number == number]


@settings(max_examples=100, deadline=None)
@given(
    actions=st.integers(2, 12),
    execute=st.integers(0, 12),
    delays=st.lists(st.integers(1, 15 * STEP), min_size=1, max_size=12),
    tick=st.integers(1, STEP // 2),
    drops=st.lists(st.integers(0, 40 * STEP), max_size=4),
)
def test_each_action_at_its_time_never_twice_and_never_after_a_hold(
    actions, execute, delays, tick, drops
):
    arm = Arm(ChunkExecutor(STEP, execute), actions, delays, tick)
    arm.run(40 * STEP, drops)
    allowed = min(execute or actions, actions)
    if allowed == 1:
        return
    names = [(each.chunk.number, each.index) for each in arm.begun]
    assert len(set(names)) == len(names), "an action was executed twice"
    assert all(each.index < allowed for each in arm.begun)
    assert names == sorted(names), "an older chunk was continued, or an action came too early"
    for each in arm.begun:
        assert not [at for at in arm.drops if each.chunk.taken < at <= each.at], "after a hold"
    for one, other in zip(arm.begun, arm.begun[1:], strict=False):
        if not any(one.at < at <= other.at for at in arm.drops):
            assert other.at - one.at > STEP - tick, "an action was cut short"
    for before, first in zip([None, *arm.begun], arm.begun, strict=False):
        rows = of_chunk(arm.begun, first.chunk.number)
        if rows[0] is not first:
            continue
        for row in rows:  # one control step each, to the tick
            late = row.at - first.at - (row.index - first.index) * STEP
            assert -tick < late <= tick
        moved = first.at - first.chunk.observed
        stopped = before is None or any(before.at < at <= first.at for at in arm.drops)
        if stopped or before.at + STEP + 2 * tick < first.at:
            # The arm stood for a while: no more is left out than it executed since the picture.
            since = [each for each in arm.begun if first.chunk.observed < each.at < first.at]
            assert first.index <= len(since) + 1
            if not since and (before is None or before.at + STEP < first.chunk.observed):
                assert first.index == 0
        elif not any(first.chunk.observed - STEP < at <= first.at for at in arm.drops):
            began = [each for each in arm.begun if each.at <= first.chunk.observed]
            continuous = began and all(
                later.at - earlier.at <= STEP + 2 * tick
                for earlier, later in zip(
                    arm.begun[len(began) - 1 :], arm.begun[len(began) :], strict=False
                )
                if later.at <= first.at
            )
            if continuous:
                assert abs(moved - first.index * STEP) <= STEP / 2 + 2 * tick


@settings(max_examples=30, deadline=None)
@given(
    actions=st.integers(4, 16),
    share=st.floats(0.01, 0.3),
    tick=st.integers(1, STEP // 10),
)
def test_a_model_that_keeps_up_never_lets_the_arm_wait(actions, share, tick):
    delay = max(1, int(share * actions * STEP))
    arm = Arm(ChunkExecutor(STEP), actions, [delay] * 100, tick)
    arm.run(100 * STEP)
    times = [each.at for each in arm.begun]
    assert len(times) > 90
    # A chunk of few actions is left before it ends, so its last action is shorter, never longer.
    assert max(np.diff(times)) <= STEP + 2 * tick
    per_chunk = len(times) / len(arm.chunks)
    assert per_chunk > actions / 2 - 2, "it was asked more often than the delay needs"


def test_a_slow_model_is_asked_when_the_arm_has_stopped_and_nothing_is_left_out():
    arm = Arm(ChunkExecutor(STEP), 5, [12 * STEP] * 6, 100)
    arm.run(60 * STEP)
    later = arm.chunks[1:]  # of the first nobody knew how long it takes
    assert all(chunk.observed >= of_chunk(arm.begun, chunk.number - 1)[-1].at for chunk in later)
    shown = {number: [each.index for each in of_chunk(arm.begun, number)] for number in (1, 2, 3)}
    assert all(indices == [0, 1, 2, 3, 4] for indices in shown.values())


def test_a_chunk_whose_time_is_past_is_counted_and_left_out():
    executor = ChunkExecutor(STEP)
    executor.take(chunk_of(1, 4), 0, 0, "one")
    for now in range(0, 4 * STEP + 1, 100):
        executor.advance(now)
    assert "all 4 actions" in executor.awaited
    assert not executor.take(chunk_of(2, 4), 10, 4 * STEP + 100, "two")
    assert executor.late == 1 and executor.advance(4 * STEP + 200) is None
    assert executor.take(chunk_of(3, 4), 4 * STEP, 9 * STEP, "three")
    due = executor.advance(9 * STEP)
    assert (due.answer, due.place.index, due.place.number) == ("three", 0, 2)
    assert due.place.delay_sec == pytest.approx(5 * STEP / 1e9) and not executor.awaited


def test_a_hold_drops_what_runs_and_what_waits():
    executor = ChunkExecutor(STEP)
    executor.take(chunk_of(1, 4), 0, 0, "one")
    executor.advance(0)
    executor.take(chunk_of(2, 4), 0, 100, "two")
    executor.drop(200, "stopped")
    assert [executor.advance(now) for now in (300, STEP, 2 * STEP)] == [None] * 3
    assert executor.awaited == "stopped" and executor.wants_next(2 * STEP)


def test_one_action_counts_until_the_next_and_begins_at_once():
    executor = ChunkExecutor(STEP, execute=0)
    for number, now in enumerate((0, 30, 10 * STEP, 90 * STEP)):
        assert executor.wants_next(now)
        actions = chunk_of(number, 1)
        executor.take(actions, now - 20 * STEP, now, number)
        due = executor.advance(now)
        assert due.first and due.answer == number and due.action is not None
        assert due.action.tobytes() == actions[0].tobytes()
        assert executor.advance(now + 50 * STEP) is None and not executor.awaited
        assert executor.next_change(now) is None
    executor.drop(91 * STEP)
    assert not executor.awaited


@given(
    blend=st.integers(0, 6),
    old=st.integers(-8, 8),
    new=st.integers(-8, 8),
    at=st.integers(1, 7),
)
def test_a_new_chunk_is_faded_in_and_the_gripper_is_not(blend, old, new, at):
    executor = ChunkExecutor(STEP, blend=blend)
    executor.take(np.tile([old, old, -1.0], (8, 1)), 0, 0, None)
    actions, switched = [], None
    for now in range(0, 14 * STEP, 50):
        if now == at * STEP - 100:
            executor.take(np.tile([new, new, 1.0], (8, 1)), now, now, None)
        due = executor.advance(now)
        if due is not None:
            switched = switched if switched is not None or due.place.number == 1 else len(actions)
            actions.append(due.action)
    numbers = np.array(actions)
    assert np.array_equal(numbers[:, 0], numbers[:, 1])
    assert np.abs(np.diff(numbers[:, 0])).max() <= abs(new - old) / (blend + 1) + 1e-12
    assert set(numbers[:switched, 2]) == {-1.0} and set(numbers[switched:, 2]) == {1.0}
    assert len(actions) - switched <= blend or numbers[-1, 0] == new


def test_after_a_hold_nothing_of_before_is_faded_in():
    executor = ChunkExecutor(STEP, blend=3)
    executor.take(np.full((8, 3), 5.0), 0, 0, None)
    executor.advance(0)
    executor.drop(10)
    executor.take(np.full((8, 3), 1.0), 20, 20, None)
    assert executor.advance(20).action.tolist() == [1.0] * 3


class Counting:
    """Answers with chunks whose rows are numbered; NaN for answers that are named bad."""

    def __init__(self, actions, bad=()):
        self.actions, self.bad = actions, bad
        self.asked, self.resets = 0, []

    def infer(self, observation):
        self.asked += 1
        chunk = chunk_of(self.asked, self.actions)
        problem = "no action" if self.asked in self.bad else ""
        if problem:
            chunk = np.full_like(chunk, np.nan)
        return StepResult(
            chunk[0], (1, 2), "skip", "because", {"total": 3.0}, 5, chunk=chunk, problem=problem
        )

    def settle(self):
        return None

    def warning(self):
        return ""

    def reset(self, success=None):
        self.resets.append(success)


def taken(decoder, steps):
    return [decoder.infer(None) for _ in range(steps)]


def test_in_step_the_model_is_asked_when_a_chunk_has_ended():
    inner = Counting(4)
    steps = taken(ChunkedDecoder(inner, execute=3), 7)
    assert [step.action[:2].tolist() for step in steps] == [
        [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2], [3, 0]
    ]  # fmt: skip
    assert inner.asked == 3
    assert [step.passes for step in steps] == [5, 0, 0, 5, 0, 0, 5]
    assert [step.tokens for step in steps[:2]] == [(1, 2), ()]
    assert steps[0].reason == "because" and steps[1].reason == "action 2 of a chunk of 3"
    assert {step.source for step in steps} == {"skip"} and astuple(steps[4].place)[:3] == (2, 1, 3)
    assert all(step.chunk is None for step in steps)


def test_in_step_a_hold_and_a_reset_drop_the_chunk():
    inner = Counting(4, bad=(3,))
    decoder = ChunkedDecoder(inner)
    taken(decoder, 2)
    decoder.drop()
    assert taken(decoder, 1)[0].action[:2].tolist() == [2, 0]
    decoder.reset(True)
    assert inner.resets == [True]
    assert taken(decoder, 1)[0].problem, "an answer that is none is passed on"
    assert [step.action[:2].tolist() for step in taken(decoder, 2)] == [[4, 0], [4, 1]]


def test_in_step_a_chunk_is_faded_in_from_the_rest_of_the_old_one():
    first, *_ = taken(ChunkedDecoder(Counting(4), execute=2, blend=1), 3)[2:]
    # Half of action 3 of chunk 1, half of action 1 of chunk 2.
    assert first.action.tolist() == [1.5, 1.0, 0.0]


def test_in_step_one_action_is_the_decoders_own():
    inner = Counting(1)
    steps = taken(ChunkedDecoder(inner), 3)
    assert inner.asked == 3
    for number, step in enumerate(steps, 1):
        assert step.action.tobytes() == chunk_of(number, 1)[0].tobytes()
        assert (step.passes, step.reason, step.tokens) == (5, "because", (1, 2))

"""The policy's side of the control loop: its answers become steps, each begun when it is due."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from rclpy.node import Node

from heisd_ros.control import growth
from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.control.inference import Inference
from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.control.session import Session
from heisd_ros.control.watch import Watch
from heisd_ros.data.marks import Outcome
from heisd_ros.decoding.chunks import Due, step_of
from heisd_ros.decoding.types import ChunkPlace, StepResult
from heisd_ros.msg import StepLatency
from heisd_ros.nodes import telemetry
from heisd_ros.nodes.actuation import LOG_PERIOD_SEC, Actuation
from heisd_ros.nodes.clock import steady_timer
from heisd_ros.nodes.person import Person


class PolicySteps:
    """Turns results of the inference thread into control steps, unless a person has the arm.

    Args:
        node: The node that owns the timer.
        session: What was configured.
        arm: Executes the steps.
        person: Whoever may have the arm; is told what the policy would have done.
        watch: Judges results and knows the instruction.
        guarded: Makes a callback whose failure halts the arm.

    Attributes:
        shadow: Skipped steps that were verified later, and those that disagreed.
        acted_at: Steady time of the newest action, ns; None before the first.
        latency: Where the time of the newest step went; None before the first.
        place: Of the newest action in its chunk; None before the first.
    """

    def __init__(
        self,
        node: Node,
        session: Session,
        arm: Actuation,
        person: Person,
        watch: Watch,
        guarded: Callable[[Callable[[], object]], Callable[[], None]],
    ) -> None:
        self.shadow: Counter[str] = Counter(checked=0, disagreed=0)
        self.acted_at: int | None = None
        self.latency: StepLatency | None = None
        self.place: ChunkPlace | None = None
        self._node, self._session, self._arm = node, session, arm
        self._person, self._watch, self._growth = person, watch, session.policy.growth
        # Without a clock, a later action of a chunk is sent when it is due.
        self._due = _OneShot(node, guarded(self._on_due))

    def take_instruction(self, text: str) -> None:
        """Acts on this instruction from now on; running inference for another is dropped."""
        now = time.monotonic_ns()
        self._arm.chunks.drop(now, "another instruction was given")
        self._watch.take(text, now)
        self._session.worker.restart(self._watch.instruction)
        if self._growth is not None:
            self._growth.end(success=False)  # the outcome of the last one was not reported

    def end_episode(self, outcome: Outcome) -> None:
        """Records how the episode ended; the policy continues with the instruction."""
        success = outcome is Outcome.SUCCESS
        if self._growth is not None:
            self._growth.end(success)
        if outcome is Outcome.DISCARD:
            self._session.worker.restart(self._watch.instruction)
        else:
            self._session.worker.end_episode(success)
        self._arm.chunks.drop(time.monotonic_ns(), "the episode ended")

    def take_result(self) -> None:
        """Takes the result that is ready, if any."""
        inference = self._session.worker.collect()
        if inference is None:
            return
        now = time.monotonic_ns()
        if inference.trace:
            self._node.get_logger().error(inference.trace, throttle_duration_sec=LOG_PERIOD_SEC)
        outcome, fault = inference.outcome, self._watch.judge(inference, now)
        if self._person.taken:
            self._person.shadow(inference, self._session.buffer.problem(now) or fault)
            self._session.worker.ask()
        elif fault is not None:
            self._arm.hold(self._outside(now) or fault, now)
        elif isinstance(outcome, StepResult):
            observed = inference.observation.complete
            self._arm.chunks.take(outcome.actions, observed, now, inference)
            self.advance(now)

    def advance(self, now: int) -> None:
        """Begins the action that is due now, if any, and asks for the next chunk in time."""
        due = self._arm.chunks.advance(now)
        if due is not None:
            self._begin(due, now)
        hold = self._no_chunk()
        if hold is not None and self._arm.holds.current is None:
            self._arm.hold(hold, now)
        self.ask(now)
        if not self._arm.clocked:
            self._due.set(self._arm.chunks.next_change(now))

    def ask(self, now: int) -> None:
        """Asks for the next answer if it should be decided now."""
        if self._arm.chunks.wants_next(now):
            self._session.worker.ask()

    def problem(self, now: int) -> Hold | None:
        """Returns why the policy may not move the arm now; None if it may."""
        inferring_sec = self._session.worker.inferring_sec(now)
        return self._outside(now) or self._watch.problem(now, inferring_sec) or self._no_chunk()

    def close(self) -> None:
        """Stops inference; a running one is not waited for."""
        self._due.close()
        self._session.worker.restart("")

    def _begin(self, due: Due[Inference], now: int) -> None:
        inference, result = due.answer, due.answer.outcome
        assert isinstance(result, StepResult), "a hold has no actions"
        problem = self._outside(now) or self._watch.late(inference.observation, now)
        if problem is not None:
            self._arm.hold(problem, now)
            return
        if not due.first:  # only the first action had to wait for the model
            inference = replace(inference, settled=None, wait_ms=0.0, convert_ms=0.0)
        self._act(inference, step_of(due, result), now)

    def _act(self, inference: Inference, result: StepResult, now: int) -> None:
        arm, mapper, action = self._arm, self._session.mapper, result.action
        arm.end_hold(now)
        if self._growth is not None:
            growth.note(self._growth, inference.instruction, result)
        self.place, self.acted_at = result.place, now
        if inference.settled is not None:
            self.shadow["checked"] += 1
            self.shadow["disagreed"] += not inference.settled.agrees
        self._watch.expect(now)
        message = telemetry.step_message(inference, result, self._watch.instruction_age(now), now)
        self.latency = message.latency
        arm.execute(
            mapper.motion(action),
            action,
            arm.gripper.update(mapper.gripper_openness(action), now / NANOSECONDS),
            result.source,
            message,
            answered=inference.observation.stamp,
            since=inference.observation.complete,
        )

    def _on_due(self) -> None:
        if not self._person.taken:
            self.advance(time.monotonic_ns())

    def _outside(self, now: int) -> Hold | None:
        """Returns the hold that applies whatever the policy decides."""
        inputs = self._session.buffer.problem(now)
        return self._arm.problem(inputs) or self._person.hand_over(self._watch, now)

    def _no_chunk(self) -> Hold | None:
        """Returns the hold between a chunk of several actions and the next one."""
        why = self._arm.chunks.awaited
        return Hold(HoldReason.NO_CHUNK, f"{why}; the next one is awaited") if why else None


class _OneShot:
    """Calls a function once, at a steady time that is set again for each call.

    Args:
        node: The node whose executor calls it.
        callback: What is called.
    """

    def __init__(self, node: Node, callback: Callable[[], None]) -> None:
        self._node, self._callback = node, callback
        self._timer = steady_timer(node, 1.0, self._fire)
        self._timer.cancel()

    def set(self, at: int | None) -> None:
        """Sets the next call, in place of one that is still to come.

        Args:
            at: Steady time, ns; None: no call.
        """
        if at is None:
            self._timer.cancel()
        else:
            self._timer.timer_period_ns = max(1, at - time.monotonic_ns())
            self._timer.reset()

    def close(self) -> None:
        """Destroys the timer."""
        self._node.destroy_timer(self._timer)

    def _fire(self) -> None:
        self._timer.cancel()
        self._callback()

"""Runs one decoding mode on a recording, with the node's inputs and rules, on the bag's clock.

Only the clock differs from the node. Time is that of the bag, and a step takes none of it: it
begins with the newest observation set once a control period has passed since the last one.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.control.commands import CommandMapper
from heisd_ros.control.control_grid import ControlGrid
from heisd_ros.control.holds import FRESH_START, Hold, HoldTracker
from heisd_ros.control.inference import Inference
from heisd_ros.control.inputs import NANOSECONDS, InputHealth
from heisd_ros.control.policy import Policy
from heisd_ros.control.session import open_intake, warm_up
from heisd_ros.control.watch import Watch
from heisd_ros.decoding.chunks import ChunkedDecoder
from heisd_ros.decoding.types import StepResult
from heisd_ros.errors import HeisdError, ReplayError
from heisd_ros.evaluation.rollout import StepRecord
from heisd_ros.replay.observation_tap import ObservationTap, observation_digest
from heisd_ros.robot.declare import with_values
from heisd_ros.robot.instruction import instruction_problem
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.robot_arm import make_reader, urdf_text

_NEVER = 2**63


@dataclass(frozen=True)
class ReplayedStep:
    """One control step of a replay.

    Attributes:
        at: When it was taken, ns on the bag's clock since the replay began.
        stamp: Header stamp of its observation set, ns.
        digest: Digest of the decoder's observation.
        record: The decoder's result.
        twist: (6,) command before limits, m/s and rad/s; of a model of joint actions (n,).
        closing: Whether the action wants the gripper closed.
        convert_ms: Time to convert images and proprioception, ms.
    """

    at: int
    stamp: int
    digest: str
    record: StepRecord
    twist: NDArray[np.float64]
    closing: bool
    convert_ms: float


class ModeReplay:
    """Feeds messages to one mode and keeps its steps.

    Args:
        parameters: Settings of the node; the time budget is ignored.
        policy: The decoder and its model.
        instruction: The instruction; None: that of the bag.
        start: Time on the bag's clock at which the replay starts, as the node at activation, ns.

    Attributes:
        steps: The steps that would have moved the arm.
        holds: Number of holds by reason.
        rejected: Messages that could not be used, by input and reason.
        refused: Why instructions were refused.
        rate_hz: Control steps per second.

    Raises:
        HeisdError: The robot description cannot be used.
        ValueError: The metric's bounds do not fit.
    """

    def __init__(
        self, parameters: VlaNodeParameters, policy: Policy, instruction: str | None, start: int
    ) -> None:
        self._chunked = ChunkedDecoder(policy.decoder, *astuple(parameters.chunk))
        self.tap = ObservationTap(self._chunked)
        self._policy = replace(policy, decoder=self.tap)
        warm_up(policy, policy.decoder)
        self._parameters = with_values(parameters, {"model.budget_sec": 0.0})
        intake = open_intake(self._parameters, self._policy)
        self._buffer, self._runner, self.rate_hz = intake.buffer, intake.runner, intake.rate_hz
        self._mapper = CommandMapper(self._parameters, self.rate_hz, policy.action_space)
        if parameters.robot.source != "topic":
            self._buffer.set_robot(make_reader(parameters, urdf_text(parameters)))
        self.steps: list[ReplayedStep] = []
        self.holds = HoldTracker()
        self.rejected: dict[str, Counter[str]] = defaultdict(Counter)
        self.refused: list[str] = []
        self._fixed = instruction is not None
        self._watch = Watch(self._parameters, instruction or "", start)
        self._generation = 0
        self._grid = ControlGrid(self.rate_hz)
        self._start = start
        self._sizes: tuple[tuple[int, ...], ...] = ()
        self._period = round(NANOSECONDS / parameters.watchdog_hz)
        self._tick, self._opens = start + self._period, _NEVER
        self._buffer.begin()

    @property
    def counts(self) -> Counter[str]:
        """Counts of the inputs, see `ObservationBuffer.counts`."""
        return self._buffer.counts

    def add_image(self, view: int, message: Any, now: int) -> None:
        """Adds an image message; see `ObservationBuffer.add_image`."""
        health = self._buffer.image_health[view]
        with self._noting(health):
            self._buffer.add_image(view, message, now)
        self._step(now)

    def add_joint_state(self, message: Any, now: int) -> None:
        """Adds a joint state; see `ObservationBuffer.add_joint_state`."""
        with self._noting(self._buffer.joint_health):
            self._buffer.add_joint_state(message, now)
        self._step(now)

    def add_instruction(self, text: str, now: int) -> None:
        """Sets the instruction as the node does: a new one drops earlier observations."""
        if self._fixed or text.strip() == self._watch.instruction:
            return
        problem = instruction_problem(text)
        if problem:
            self.refused.append(problem)
            return
        self._watch.take(text, now)
        self._generation += 1
        self._check(now)

    def add_robot(self, urdf: str, now: int) -> None:
        """Sets the robot description; one that cannot be used is only counted."""
        try:
            self._buffer.set_robot(make_reader(self._parameters, urdf))
        except HeisdError as error:
            self.rejected["robot_description"][str(error)] += 1

    def advance(self, now: int) -> None:
        """Advances the clock to a time, ns, with the watchdog ticks and steps that are due."""
        while (at := min(self._tick, self._opens)) <= now:
            if at == self._opens:
                self._opens = _NEVER
            if at == self._tick:
                self._tick += self._period
                self._check(at)
            self._step(at)

    def finish(self, now: int) -> None:
        """Runs the step that the last message may have made due."""
        self.advance(now + math.ceil(self._grid.period * NANOSECONDS))

    def _noting(self, health: InputHealth) -> _Noting:
        return _Noting(health, self.rejected)

    def _check(self, now: int) -> None:
        hold = self._buffer.problem(now) or self._watch.problem(now)
        if hold is not None:
            self._hold(hold)
        else:
            self._end_hold(now)

    def _step(self, now: int) -> None:
        since = (now - self._start) / NANOSECONDS
        if not self._watch.instruction or self._grid.early(since):
            return
        observation = self._buffer.take(0.0)
        if observation is None:
            return
        self._grid.advance(since)
        # One nanosecond later, since rounding might make it early again.
        self._opens = self._start + math.ceil(self._grid.opens * NANOSECONDS) + 1
        self.tap.newest = None
        instruction = self._watch.instruction
        inference = self._runner.infer(observation, instruction, self._generation, now)
        self._check_sizes(now)
        self._judge(inference, now)
        acted = self.holds.current is None
        failed = self._runner.settle(inference)
        if failed is not None:
            self._judge(failed, now)
        elif acted and self._runner.settled is not None:
            last = self.steps[-1]
            record = replace(last.record, settled=self._runner.settled)
            self.steps[-1] = replace(last, record=record)

    def _judge(self, inference: Inference, now: int) -> None:
        """Acts on a result, or holds, by the rules of the node."""
        fault, outcome = self._watch.judge(inference, now), inference.outcome
        hold = self._buffer.problem(now) or fault
        if hold is not None:
            self._hold(hold)
        elif isinstance(outcome, StepResult):
            self._end_hold(now)
            self._watch.expect(now)
            self.steps.append(self._replayed(inference, outcome, now))

    def _replayed(self, inference: Inference, result: StepResult, now: int) -> ReplayedStep:
        arm, seen = inference.observation.arm.content, self.tap.newest
        assert seen is not None, "a step without an observation"
        record = StepRecord(
            result=result,
            motion=arm.motion,
            metric_ms=0.0,  # measured before the step, when joint states arrive
            settled=None,
            tip=arm.tip().position,
            joints=arm.positions,
        )
        return ReplayedStep(
            at=now - self._start,
            stamp=inference.observation.stamp,
            digest=observation_digest(seen),
            record=record,
            twist=self._mapper.motion(result.action),
            closing=self._mapper.gripper_openness(result.action) < 0.5,
            convert_ms=inference.convert_ms,
        )

    def _hold(self, hold: Hold) -> None:
        self._chunked.drop()
        if self.holds.update(hold) and hold.reason in FRESH_START:
            self._buffer.discard()
            self._generation += 1

    def _end_hold(self, now: int) -> None:
        if self.holds.update(None):
            self._watch.expect(now)

    def _check_sizes(self, now: int) -> None:
        """Checks that each camera keeps its image size; a change is a fault of the recording.

        Raises:
            ReplayError: It changed.
        """
        if self.tap.newest is None:
            return
        sizes = tuple(pixels.shape[:2] for pixels in self.tap.newest.images)
        for view, (old, new) in enumerate(zip(self._sizes, sizes, strict=False)):
            if old != new:
                raise ReplayError(
                    f"images of view {self._policy.views[view]} are {new[1]} x {new[0]} at "
                    f"{(now - self._start) / NANOSECONDS:.2f} s, before {old[1]} x {old[0]}; "
                    "accepted: one size"
                )
        self._sizes = sizes


class _Noting:
    """Counts the messages that an input rejects within this context.

    Args:
        health: Health of the input.
        rejected: The counts, by input and reason without its numbers.
    """

    def __init__(self, health: InputHealth, rejected: dict[str, Counter[str]]) -> None:
        self._health, self._rejected = health, rejected
        self._before = health.rejected

    def __enter__(self) -> None:
        """Does nothing: rejections are counted at the end."""

    def __exit__(self, *_: object) -> None:
        """Counts the rejection, if there was one."""
        if self._health.rejected > self._before:
            reason = re.sub(r"\d+(\.\d+)?", "#", self._health.fault or "")
            self._rejected[self._health.name][reason] += 1

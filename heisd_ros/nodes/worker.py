"""The inference thread: always the newest observation, one result at a time. Knows no ROS.

Callbacks of an executor must stay short, so the model runs here. Results are not acted on in this
thread: they wait in a slot until the node's executor, woken by `on_done`, collects them. All
publishing then happens in one thread, and a stop command can never be overtaken by a late action.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from heisd_ros.decoding.types import Observation, Settled, StepResult
from heisd_ros.errors import ImageError, UnknownInstructionError
from heisd_ros.kinematics.proprio import proprio_vector
from heisd_ros.nodes.holds import Hold, HoldReason
from heisd_ros.nodes.inputs import NANOSECONDS, ObservationSet
from heisd_ros.nodes.policy import Policy

ACTION_SIZE = 7
"""Numbers of an action: translation, rotation, gripper."""


@dataclass(frozen=True)
class Inference:
    """What came of one observation set.

    Attributes:
        generation: Which start or instruction it belongs to; an older one is not acted on.
        observation: The set it answers.
        instruction: What the arm was told to do.
        outcome: The step's result, or why the arm has to be held instead.
        settled: What came of the step before, if that was verified while the arm moved.
        trace: Traceback of an unexpected failure.
        wait_ms: Time from the set's completion to the start of the work.
        convert_ms: Time for images and proprioception.
    """

    generation: int
    observation: ObservationSet
    instruction: str
    outcome: StepResult | Hold
    settled: Settled | None
    trace: str
    wait_ms: float
    convert_ms: float

    @property
    def inference_sec(self) -> float:
        """Time that the decoder took; 0 where nothing came of it."""
        outcome = self.outcome
        return outcome.timings_ms["total"] / 1e3 if isinstance(outcome, StepResult) else 0.0


class InferenceWorker:
    """Runs a policy on the newest observation set in a thread of its own.

    Args:
        policy: What maps an observation to an action.
        to_rgb: Image message to an RGB array; raises ImageError.
        take: Waits up to the given seconds for a set nobody took.
        on_done: Called in the worker's thread when a result waits.
    """

    def __init__(
        self,
        policy: Policy,
        to_rgb: Callable[[object], np.ndarray],
        take: Callable[[float], ObservationSet | None],
        on_done: Callable[[], None],
    ) -> None:
        self._policy, self._to_rgb, self._take = policy, to_rgb, take
        self._on_done = on_done
        self._lock = threading.Lock()
        self._instruction = ""
        self._ended: bool | None = None
        self._generation = 0
        self._done: Inference | None = None
        self._settled: Settled | None = None
        self._enabled = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._inferring_since: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def restart(self, instruction: str) -> None:
        """Works on this instruction from now on; results of earlier work are dropped.

        Args:
            instruction: Empty: no work until there is one.
        """
        with self._lock:
            self._generation += 1
            self._instruction, self._done = instruction, None
        if instruction:
            self._enabled.set()
        else:
            self._enabled.clear()

    def end_episode(self, success: bool) -> None:
        """Lets the decoder know, before its next step, how the episode ended."""
        with self._lock:
            self._generation += 1
            self._ended, self._done = success, None

    def collect(self) -> Inference | None:
        """Takes the newest result that was not collected; None where there is none."""
        with self._lock:
            done, self._done = self._done, None
            return done

    def inferring_sec(self, now: int) -> float:
        """For how long the inference that runs has run; 0 where none does.

        Args:
            now: Steady time, ns.
        """
        since = self._inferring_since
        return 0.0 if since is None else (now - since) / NANOSECONDS

    def wait_idle(self, timeout_sec: float) -> bool:
        """Waits until no inference runs, but no longer than this.

        Returns:
            Whether none runs.
        """
        return self._idle.wait(timeout_sec)

    def stop(self, timeout_sec: float) -> bool:
        """Ends the thread; a model that does not return in time is left behind.

        Returns:
            Whether the thread ended.
        """
        self.restart("")
        self._stopping.set()
        self._enabled.set()
        self._thread.join(timeout_sec)
        return not self._thread.is_alive()

    def _run(self) -> None:
        last_generation = -1
        while not self._stopping.is_set():
            self._enabled.wait()
            observation = self._take(0.1)
            with self._lock:
                generation, instruction = self._generation, self._instruction
            if observation is None or not instruction:
                continue
            self._idle.clear()
            self._work(observation, instruction, generation, last_generation)
            self._idle.set()
            last_generation = generation

    def _work(
        self, observation: ObservationSet, instruction: str, generation: int, last: int
    ) -> None:
        self._inferring_since = time.monotonic_ns()
        inference = self._infer(observation, instruction, generation, last)
        self._inferring_since = None
        with self._lock:
            if generation != self._generation:
                return
            self._done = inference
        self._on_done()
        self._settle(inference)

    def _settle(self, inference: Inference) -> None:
        """Lets the decoder finish what it left for the time in which the arm moves."""
        try:
            self._settled = self._policy.decoder.settle()
        except Exception as error:  # as in `_infer`: the arm must stop
            hold = Hold(HoldReason.MODEL_ERROR, f"{type(error).__name__}: {error}")
            with self._lock:
                if inference.generation != self._generation:
                    return
                self._done = replace(inference, outcome=hold, trace=traceback.format_exc())
            self._on_done()

    def _infer(
        self, observation: ObservationSet, instruction: str, generation: int, last: int
    ) -> Inference:
        began = time.monotonic_ns()
        converted, trace = began, ""
        settled, self._settled = self._settled, None
        outcome: StepResult | Hold
        try:
            if generation != last:
                self._policy.decoder.reset(self._outcome())
            inputs = self._inputs(observation, instruction)
            converted = time.monotonic_ns()
            outcome = self._policy.decoder.infer(inputs)
            action = outcome.action
            if action.shape != (ACTION_SIZE,) or not np.isfinite(action).all():
                raise ValueError(
                    f"action is {action.tolist()}; accepted: {ACTION_SIZE} finite numbers"
                )
        except ImageError as error:
            outcome = Hold(HoldReason.BAD_IMAGE, str(error))
        except UnknownInstructionError as error:
            outcome = Hold(HoldReason.UNKNOWN_INSTRUCTION, str(error))
        except Exception as error:  # whatever a model raises, the arm must stop
            outcome = Hold(HoldReason.MODEL_ERROR, f"{type(error).__name__}: {error}")
            trace = traceback.format_exc()
        return Inference(
            generation=generation,
            observation=observation,
            instruction=instruction,
            outcome=outcome,
            settled=settled,
            trace=trace,
            wait_ms=(began - observation.complete) * 1e3 / NANOSECONDS,
            convert_ms=max(converted - began, 0) * 1e3 / NANOSECONDS,
        )

    def _outcome(self) -> bool | None:
        with self._lock:
            ended, self._ended = self._ended, None
            return ended

    def _inputs(self, observation: ObservationSet, instruction: str) -> Observation:
        images = tuple(self._to_rgb(image.content) for image in observation.images)
        arm, proprio = observation.arm.content, None
        if self._policy.proprio_size:
            if arm.gripper_opening is None:
                raise ValueError(
                    "the model takes the gripper's opening, but no joint state names a joint of "
                    "parameter 'robot.gripper_joints'"
                )
            proprio = proprio_vector(arm.tip(), arm.gripper_opening)
        return Observation(images, instruction, proprio, arm.motion)

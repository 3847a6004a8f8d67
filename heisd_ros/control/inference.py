"""Maps one observation set to one result, in the calling thread. Imports no ROS.

The node's inference thread and an offline replay both run this code.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.control.inputs import NANOSECONDS, ObservationSet
from heisd_ros.control.policy import Policy
from heisd_ros.decoding.types import Observation, Settled, StepResult
from heisd_ros.errors import (
    AnswerError,
    ImageError,
    JointStateError,
    RemoteModelError,
    UnknownInstructionError,
)
from heisd_ros.kinematics.joint_states import ArmState
from heisd_ros.kinematics.proprio import pose_vector, proprio_vector
from heisd_ros.robot.gripper_parameters import GripperParameters


@dataclass(frozen=True)
class Inference:
    """Outcome of one observation set.

    Attributes:
        generation: Its start or instruction; results of an older one are not acted on.
        observation: The observation set that it answers.
        instruction: What the arm was told to do.
        outcome: The step's result, or the reason to hold the arm instead.
        settled: Verification of the previous step, if that was done while the arm moved.
        trace: Traceback of an unexpected failure.
        wait_ms: Time from the completion of the set to the start of inference, ms.
        convert_ms: Time to convert images and proprioception, ms.
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
        """Time that the decoder took, s; 0 if it gave no result."""
        outcome = self.outcome
        return outcome.timings_ms["total"] / 1e3 if isinstance(outcome, StepResult) else 0.0


def has_chunk(inference: Inference) -> bool:
    """Whether an outcome is the actions of several control steps."""
    outcome = inference.outcome
    return isinstance(outcome, StepResult) and len(outcome.actions) > 1


class PolicyRunner:
    """Runs a policy on observation sets, one after the other.

    Args:
        policy: What maps an observation to an action.
        to_rgb: Image message to an RGB array; raises ImageError.
        state: The arm, whose gripper's opening is known, to the model's state.

    Attributes:
        settled: Verification of the newest step, if that was done while the arm moved.
    """

    def __init__(
        self,
        policy: Policy,
        to_rgb: Callable[[object], np.ndarray],
        state: Callable[[ArmState], np.ndarray] | None = None,
    ) -> None:
        self._policy, self._to_rgb, self._state = policy, to_rgb, state or tip_state
        self._generation: int | None = None
        self._lock = threading.Lock()
        self._ended: bool | None = None  # how the previous episode ended, if reported
        self._holds = self._told = 0  # holds of the arm, and those that the decoder knows of
        self.settled: Settled | None = None

    def end_episode(self, success: bool) -> None:
        """Tells the decoder how the episode ended, when the next generation begins."""
        with self._lock:
            self._ended = success

    def note_hold(self) -> None:
        """Tells the decoder, with the next observation, that the arm was held."""
        self._holds += 1

    def infer(
        self, observation: ObservationSet, instruction: str, generation: int, now: int
    ) -> Inference:
        """Decides one step; the decoder is reset when the generation changes.

        Args:
            observation: The set.
            instruction: What the arm is told to do.
            generation: Counts starts and instructions.
            now: Time, ns, on the clock by which the set was received.

        Returns:
            The result, or the reason to hold the arm. It raises nothing.
        """
        began, trace = time.perf_counter(), ""
        converted = began
        settled, self.settled = self.settled, None
        outcome: StepResult | Hold
        try:
            if generation != self._generation:
                self._generation = generation
                self._policy.decoder.reset(self._outcome())
            holds = self._holds  # read once: another may come meanwhile
            inputs = self._inputs(observation, instruction, holds > self._told)
            self._told = holds
            converted = time.perf_counter()
            outcome = self._policy.decoder.infer(inputs)
            if outcome.problem:
                raise AnswerError(outcome.problem)
            # One with a place was taken from a chunk by a `ChunkedDecoder`.
            least = 1 if outcome.place else self._policy.least_actions
            _check_actions(outcome, least, self._policy.action_size)
        except AnswerError as error:
            outcome = Hold(HoldReason.NO_ACTION, str(error))
        except ImageError as error:
            outcome = Hold(HoldReason.BAD_IMAGE, str(error))
        except JointStateError as error:
            outcome = Hold(HoldReason.BAD_JOINT_STATES, str(error))
        except UnknownInstructionError as error:
            outcome = Hold(HoldReason.UNKNOWN_INSTRUCTION, str(error))
        except RemoteModelError as error:
            outcome = Hold(HoldReason.MODEL_AWAY, str(error))
        except Exception as error:  # whatever a model raises, the arm must stop
            outcome, trace = _model_error(error), traceback.format_exc()
        return Inference(
            generation=generation,
            observation=observation,
            instruction=instruction,
            outcome=outcome,
            settled=settled,
            trace=trace,
            wait_ms=(now - observation.complete) * 1e3 / NANOSECONDS,
            convert_ms=(converted - began) * 1e3,
        )

    def settle(self, inference: Inference) -> Inference | None:
        """Runs the verification that the decoder deferred until the arm moves.

        Returns:
            The hold that replaces the step's result if that failed; None if it succeeded.
        """
        try:
            self.settled = self._policy.decoder.settle()
        except RemoteModelError as error:
            return replace(inference, outcome=Hold(HoldReason.MODEL_AWAY, str(error)))
        except Exception as error:  # as in `infer`: the arm must stop
            return replace(inference, outcome=_model_error(error), trace=traceback.format_exc())
        return None

    def _outcome(self) -> bool | None:
        with self._lock:
            ended, self._ended = self._ended, None
            return ended

    def _inputs(self, observation: ObservationSet, instruction: str, held: bool) -> Observation:
        images = tuple(self._to_rgb(image.content) for image in observation.images)
        arm, proprio = observation.arm.content, None
        if self._policy.proprio_size:
            if arm.gripper_opening is None:
                unseen = list(arm.unseen_fingers) or "none is named"
                raise JointStateError(
                    "the model takes the gripper's opening, but of 'robot.gripper_joints' were "
                    f"not seen within 'input.gripper_timeout_sec': {unseen}"
                )
            proprio = self._state(arm)
        return Observation(images, instruction, proprio, arm.motion, held)


def tip_state(arm: ArmState) -> np.ndarray:
    """Returns pose of the tip and opening of the gripper, (7,), as `proprio_vector`."""
    assert arm.gripper_opening is not None
    return proprio_vector(arm.tip(), arm.gripper_opening)


def robosuite_state(arm: ArmState) -> np.ndarray:
    """Returns pose of the tip and both fingers, (8,), as `pose_vector`."""
    assert arm.gripper_opening is not None
    return pose_vector(arm.tip(), arm.gripper_opening)


def joint_state(arm: ArmState, gripper: GripperParameters) -> np.ndarray:
    """Returns joint positions and gripper as DROID has them, (n + 1,), float32.

    Args:
        arm: State of the arm; the gripper's opening is known.
        gripper: The numbers of an open and of a closed gripper.
    """
    assert arm.gripper_opening is not None
    ends = gripper.closed_position, gripper.open_position
    share = float(np.clip((arm.gripper_opening - ends[0]) / ((ends[1] - ends[0]) or 1.0), 0.0, 1.0))
    number = gripper.closed_action + share * (gripper.open_action - gripper.closed_action)
    return np.append(arm.positions, number).astype(np.float32)


def _check_actions(result: StepResult, least: int, size: int) -> None:
    """Checks every action of a result.

    Raises:
        ValueError: One is not `size` finite numbers.
        AnswerError: There are fewer than `least`.
    """
    for index, action in enumerate(result.actions):
        if action.shape != (size,) or not np.isfinite(action).all():
            where = f"action {index + 1} of a chunk" if len(result.actions) > 1 else "action"
            raise ValueError(
                f"{where} is {action.tolist()} of the tokens {list(result.tokens)}; accepted: "
                f"{size} finite numbers"
            )
    if len(result.actions) < least:
        raise AnswerError(
            f"a chunk has {len(result.actions)} actions; accepted: at least {least}, as "
            "'chunk.execute' and 'chunk.blend' ask for"
        )


def _model_error(error: Exception) -> Hold:
    return Hold(HoldReason.MODEL_ERROR, f"{type(error).__name__}: {error}")

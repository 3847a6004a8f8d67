"""Decides how much of a reasoning is decoded: all of it, or what follows the last one.

In fast, straight motion little changes in what a model would say, so its last reasoning is kept as
the beginning of the answer. That is an approximation: the tokens are the model's own behind that
beginning, and not those of the plain loop. ``count`` is upstream ECoT's freezing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from heisd_ros.decoding.acceptance import action_ids, groups_of, within_tolerance
from heisd_ros.decoding.answer_actions import action_of
from heisd_ros.decoding.boundary import Boundary, Zone
from heisd_ros.decoding.conformal import TaskAlarms
from heisd_ros.decoding.reasoning_calibration import FIX, ReasoningCalibration
from heisd_ros.decoding.settings import AcceptanceRule, ReasoningSettings
from heisd_ros.errors import ModeError
from heisd_ros.instructions import normalise_instruction
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.vla.action_codec import ActionCodec
from heisd_ros.vla.reasoning import reasoning_of


class Thought(NamedTuple):
    """How an answer is decoded.

    Attributes:
        kept: the beginning of the answer that is kept; empty: all is decoded.
        reason: explanation for the telemetry; empty in modes that never keep one.
        accept: acceptance rule of drafts; None: that of their proposer.
    """

    kept: tuple[int, ...] = ()
    reason: str = ""
    accept: AcceptanceRule | None = None


class Thinking:
    """What is known of the reasoning of an episode's answers.

    Args:
        settings: when a reasoning is kept.
        codec: of the model's answers.
        calibration: says how long it is kept; None: the settings do.
        limit: the boundary of that calibration; None: that of the mode holds.
        seed: seed of shadow checks.

    Raises:
        ModeError: the settings keep reasonings, and the model's answers hold none.
    """

    def __init__(
        self,
        settings: ReasoningSettings,
        codec: ActionCodec,
        calibration: ReasoningCalibration | None = None,
        limit: Boundary | None = None,
        seed: int = 0,
    ) -> None:
        self._settings, self._codec = settings, codec
        self._calibration, self._limit = calibration, limit
        self._steps = settings.steps
        self._drift: TaskAlarms | None = None
        self._shadows = np.random.default_rng(seed)
        if calibration is not None and calibration.chosen is not None:
            self._steps = calibration.steps[calibration.chosen]
            self._drift = TaskAlarms(calibration.drift_limit)
        self._reasoning = reasoning_of(codec)
        if settings.keep != "never" and self._reasoning is None:
            raise ModeError(
                f"reasoning.keep is {settings.keep!r}, but answers of this model hold no "
                "reasoning; accepted with it: 'never'"
            )
        self.reset()

    @property
    def warning(self) -> str:
        """Why reasonings are not kept as a calibration of the mode says; empty if they are."""
        if self._settings.keep == "never":
            return ""
        if self._calibration is None:
            return f"reasonings are kept without a calibration of this mode; {FIX}"
        if self._calibration.chosen is None:
            return f"no reasoning is kept: {self._calibration.refusal}"
        if self._drift is None:
            return ""
        off = "no reasoning {task}is kept"
        words = self._drift.describe("shadow-checked steps", "calibrated", off)
        return f"{words} ({FIX} if this returns)" if words else ""

    def reset(self) -> None:
        """Forgets the episode."""
        self._answer: tuple[int, ...] | None = None
        self._acted: tuple[int, ...] | None = None
        self._task = ""
        self._in_a_row = 0
        self._since_gripper = self._settings.clearance
        if self._limit is not None:
            self._limit.reset()
        self._surprised = self._disagreed = False
        if self._drift is not None:
            self._drift.end_episode()

    def decide(
        self,
        instruction: str,
        zone: Zone | None,
        after_hold: bool = False,
        motion: MetricSample | None = None,
    ) -> Thought:
        """Decides about one step; `note` must follow, or the next step keeps nothing.

        Args:
            instruction: the task of the step.
            zone: of the metric; None: the mode does not use it.
            after_hold: the arm was held since the step before.
            motion: the metric; used with a calibrated boundary.
        """
        if self._settings.keep == "never" or self._reasoning is None:
            return Thought()
        if (task := normalise_instruction(instruction)) != self._task:
            self.reset()
            self._task = task
        if self._limit is not None:
            zone = self._limit.update(motion)
        # In slow motion a difference within the bounds can hold the arm for good.
        by_motion = self._settings.keep == "motion" and zone is not None and zone.retrieval
        accept = self._settings.accept if by_motion else None
        # Taken: a step that fails before its answer is known leaves nothing to keep.
        answer, self._answer = self._answer, None
        if answer is None:
            return Thought((), "thinks: no answer before it", accept)
        if why := "the arm was held" if after_hold else self._objection(zone):
            return Thought((), f"thinks: {why}", accept)
        kept = self._reasoning.kept(answer, self._settings.again)
        if not kept:
            return Thought((), "thinks: the last answer has nothing to keep", accept)
        why = f"; {zone.reason}" if zone is not None else ""
        count = f"{self._in_a_row + 1} of {self._steps}"
        return Thought(kept, f"keeps the reasoning, {count}{why}", accept)

    def problem(self, tokens: Sequence[int]) -> str:
        """Returns why an answer behind a kept reasoning is not to be executed; empty if it is.

        Args:
            tokens: the answer, with its kept beginning.
        """
        if problem := action_of(self._codec, tokens).problem:
            return problem
        if self._settings.keep == "motion" and self._turns_gripper(action_ids(tokens, self._codec)):
            return "the gripper would change"
        return ""

    def note(self, tokens: Sequence[int], kept: Sequence[int] = ()) -> None:
        """Records a step's answer.

        Args:
            tokens: the answer, with its kept beginning.
            kept: that beginning; empty: all was decoded.
        """
        if self._settings.keep == "never":
            return
        self._in_a_row, self._disagreed = self._in_a_row + 1 if kept else 0, False
        if action_of(self._codec, tokens).problem:
            self._answer = self._acted = None
            return
        action = action_ids(tokens, self._codec)
        self._since_gripper = 0 if self._turns_gripper(action) else self._since_gripper + 1
        self._surprised = self._acted is not None and not within_tolerance(
            action, self._acted, self._codec
        )
        self._answer, self._acted = tuple(tokens), action

    def shadow(self) -> bool:
        """Draws whether a step that kept a reasoning is decoded in full as well."""
        return bool(self._shadows.random() < self._settings.shadow_share)

    def observe_shadow(self, agreed: bool) -> None:
        """Records whether the action behind a fresh reasoning is near that of the newest step."""
        self._disagreed = not agreed
        if self._drift is not None:
            self._drift.add(self._task, not agreed)

    def _objection(self, zone: Zone | None) -> str:
        """Returns why a reasoning that is there is not kept; empty if it is."""
        settings, calibration = self._settings, self._calibration
        if calibration is not None and calibration.chosen is None:
            return calibration.refusal
        if calibration is not None and not calibration.allows(self._task):
            return "the calibration lets none be kept in this task"
        if self._drift is not None and self._drift.raised(self._task):
            return "drift"
        if self._disagreed:
            return "the action behind a fresh reasoning was another one"
        if self._in_a_row >= self._steps:
            return f"{self._steps} steps in a row have kept it"
        if settings.keep == "count":
            return ""
        if zone is None or not zone.retrieval:
            return "slow or curved motion" + (f", {zone.reason}" if zone is not None else "")
        if self._surprised:
            return "the action was not near the one before"
        if self._since_gripper < settings.clearance:
            return f"{self._since_gripper} steps after the gripper changed"
        return ""

    def _turns_gripper(self, action: tuple[int, ...]) -> bool:
        groups = groups_of(self._codec)
        place = groups[-1].stop if groups else len(action)
        return self._acted is not None and action[place:] != self._acted[place:]

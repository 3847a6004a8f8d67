"""Decides when results, or missing results, require a hold. Imports no ROS.

Faults of the inputs themselves are found by `ObservationBuffer.problem`.
"""

from __future__ import annotations

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.control.inference import Inference
from heisd_ros.control.inputs import NANOSECONDS, ObservationSet
from heisd_ros.robot.parameters import VlaNodeParameters


class Watch:
    """Watches instruction, results and the time since the last action.

    Args:
        parameters: Limits; may be replaced at any time.
        instruction: The instruction; may be empty.
        now: Steady time, ns.

    Attributes:
        instruction: The current instruction.
    """

    def __init__(self, parameters: VlaNodeParameters, instruction: str, now: int) -> None:
        self.parameters = parameters
        self.take(instruction, now)

    def take(self, instruction: str, now: int) -> None:
        """Sets the instruction; earlier results no longer count."""
        self.instruction, self._since = instruction.strip(), now
        self._fault: Hold | None = None  # of the newest inference
        self._quiet_since = now  # since when an action has been due

    def instruction_age(self, now: int) -> float:
        """Returns the seconds since the instruction was set."""
        return (now - self._since) / NANOSECONDS

    def expect(self, now: int) -> None:
        """Restarts the time within which the next action is due."""
        self._quiet_since = now

    def judge(self, inference: Inference, now: int) -> Hold | None:
        """Takes the newest result; returns why it may not be acted on, or None."""
        outcome = inference.outcome
        self._fault = outcome if isinstance(outcome, Hold) else None
        self._fault = self._fault or self._over_budget(inference.inference_sec)
        self._fault = self._fault or self.late(inference.observation, now)
        return self._fault

    def problem(self, now: int, inferring_sec: float = 0.0) -> Hold | None:
        """Returns why the arm has to be held now, with or without a result; None if it need not be.

        Args:
            now: Steady time, ns.
            inferring_sec: How long the running inference has taken so far, s.
        """
        return (
            self._instruction_problem()
            or self._fault
            or self._over_budget(inferring_sec)
            or self.overdue(now)
        )

    def overdue(self, now: int) -> Hold | None:
        """Returns the hold if the next action is overdue."""
        age = (now - self._quiet_since) / NANOSECONDS
        limit = self.parameters.command.max_action_age_sec
        if age <= limit:
            return None
        return Hold(
            HoldReason.ACTION_TOO_OLD, f"no action for {age:.2f} s; accepted: up to {limit:g} s"
        )

    def _instruction_problem(self) -> Hold | None:
        if self.instruction:
            return None
        return Hold(HoldReason.NO_INSTRUCTION, "set parameter 'instruction' or ~/input/instruction")

    def _over_budget(self, seconds: float) -> Hold | None:
        budget = self.parameters.model.budget_sec
        if budget == 0.0 or seconds <= budget:
            return None
        return Hold(
            HoldReason.OVER_BUDGET, f"inference took {seconds:.2f} s; accepted: up to {budget:g} s"
        )

    def late(self, observation: ObservationSet, now: int) -> Hold | None:
        """Returns the hold for an action whose observation is too old, as after a model hung.

        In lock-step the scene waits for the answer, however late.
        """
        age, command = (now - observation.complete) / NANOSECONDS, self.parameters.command
        if age <= command.max_action_age_sec or command.stamp == "observation":
            return None
        return Hold(
            HoldReason.ACTION_TOO_OLD,
            f"the action answers an observation of {age:.2f} s ago; accepted: up to "
            f"{command.max_action_age_sec:g} s",
        )

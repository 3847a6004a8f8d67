"""The control loop of the active VLA node: acts on results, holds on faults, watches ages.

It exists from activation to deactivation. All of it runs in the executor's thread, and only it
publishes commands, so a stop is never overtaken by a late action.
"""

from __future__ import annotations

import time

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher

from heisd_ros.decoding.types import StepResult
from heisd_ros.msg import StepLatency, StepTelemetry
from heisd_ros.nodes import telemetry
from heisd_ros.nodes.commands import STOP, Command, GripperSwitch
from heisd_ros.nodes.holds import Hold, HoldReason, HoldTracker
from heisd_ros.nodes.inputs import NANOSECONDS
from heisd_ros.nodes.outputs import CommandOutputs
from heisd_ros.nodes.session import Session
from heisd_ros.nodes.worker import Inference

LOG_PERIOD_SEC = 5.0
"""How often a hold that goes on is logged again."""
_FRESH_START = frozenset(HoldReason) - {
    HoldReason.MODEL_ERROR,
    HoldReason.UNKNOWN_INSTRUCTION,
    HoldReason.ACTION_TOO_OLD,
    HoldReason.UNSYNCHRONISED,
}
"""Holds that make what was seen before them void."""


class ControlLoop:
    """Turns results of the inference thread into commands, or stops the arm and says why.

    Args:
        node: The node that owns publishers and timers.
        session: What was configured.
        telemetry_topic: Where step telemetry goes.
        instruction: What the arm is told to do; may be empty.

    Attributes:
        holds: The hold in force and the counts of all since activation.
        step: Control steps since activation, holds not included.
        acted_at: Steady time of the newest action, ns; None before the first.
        latency: Where the time of the newest step went; None before the first.
    """

    def __init__(
        self, node: Node, session: Session, telemetry_topic: Publisher, instruction: str
    ) -> None:
        self.holds = HoldTracker()
        self.step = 0
        self.acted_at: int | None = None
        self.latency: StepLatency | None = None
        self._node, self._session, self._telemetry = node, session, telemetry_topic
        self._parameters = session.parameters
        self._outputs = CommandOutputs(node, self._parameters.frame_id)
        self._gripper = GripperSwitch(self._parameters)
        self._command: Command | None = None
        self._answered = 0  # stamp of the observation that the newest command answers, ns
        session.buffer.discard()
        session.motion.reset()
        self.set_instruction(instruction)

        steady = Clock(clock_type=ClockType.STEADY_TIME)
        periods = [(self._parameters.watchdog_hz, self._on_watchdog)]
        if self._parameters.republish_hz > 0.0:
            periods.append((self._parameters.republish_hz, self._on_republish))
        self._timers = [
            node.create_timer(1.0 / rate, callback, clock=steady) for rate, callback in periods
        ]

    def set_instruction(self, text: str) -> None:
        """Acts on this instruction from now on; what is being inferred for another is dropped."""
        now = time.monotonic_ns()
        self._instruction, self._instruction_since = text.strip(), now
        self._fault: Hold | None = None  # of the newest inference
        self._quiet_since = now  # since when an action has been due
        self._session.worker.restart(self._instruction)

    def close(self) -> None:
        """Ends work, sends the stop command last and destroys the command topics."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self._session.worker.restart("")
        if not self._outputs.close(STOP.twist, self._stamp()):
            self._node.get_logger().warning(
                "the stop command was not acknowledged by every subscriber"
            )

    def on_inference(self) -> None:
        """Takes the result that waits, if any."""
        inference = self._session.worker.collect()
        if inference is None:
            return
        now = time.monotonic_ns()
        if inference.trace:
            self._node.get_logger().error(inference.trace, throttle_duration_sec=LOG_PERIOD_SEC)
        outcome = inference.outcome
        self._fault = outcome if isinstance(outcome, Hold) else None
        problem = self._session.buffer.problem(now)
        if problem is not None:
            self._hold(problem, now)
        elif isinstance(outcome, Hold):
            self._hold(outcome, now)
        else:
            self._act(inference, outcome, now)

    def _act(self, inference: Inference, result: StepResult, now: int) -> None:
        self._end_hold()
        mapper, action = self._session.mapper, result.action
        self._command, self._answered = mapper.command(action), inference.observation.stamp
        opening = self._gripper.update(mapper.gripper_openness(action), now / NANOSECONDS)
        # The gripper first: a simulation in lock-step advances when the twist arrives.
        if opening is not None:
            self._outputs.send_gripper(opening)
        self._outputs.send_twist(self._command.twist, self._stamp())
        self.step += 1
        self.acted_at = self._quiet_since = time.monotonic_ns()

        age = self._instruction_age(now)
        message = telemetry.step_message(inference, result, age, self.acted_at)
        self.latency = message.latency
        if self._command.limited:
            message.reason += f"; {self._command.limited}"
        self._publish(message, self._command)

    def _on_watchdog(self) -> None:
        now = time.monotonic_ns()
        hold = self._session.buffer.problem(now) or self._instruction_problem()
        hold = hold or self._fault or self._overdue(now)
        if hold:
            self._hold(hold, now)
        else:
            self._end_hold()

    def _instruction_problem(self) -> Hold | None:
        if self._instruction:
            return None
        return Hold(HoldReason.NO_INSTRUCTION, "set parameter 'instruction' or ~/input/instruction")

    def _overdue(self, now: int) -> Hold | None:
        age, limit = (now - self._quiet_since) / NANOSECONDS, self._parameters.max_age_sec
        if age <= limit:
            return None
        return Hold(
            HoldReason.ACTION_TOO_OLD, f"no action for {age:.2f} s; accepted: up to {limit:g} s"
        )

    def _hold(self, hold: Hold, now: int) -> None:
        """Stops the arm; repeated at every tick of the watchdog until the reason is gone."""
        news = self.holds.update(hold)
        self._command = None
        self._outputs.send_twist(STOP.twist, self._stamp())
        if news and hold.reason in _FRESH_START:
            # Nothing seen before the fault may move the arm after it.
            self._session.buffer.discard()
            self._session.worker.restart(self._instruction)
        logger, text = self._node.get_logger(), f"arm held: {hold}"
        if news:
            logger.warning(text)
        else:
            logger.warning(text, throttle_duration_sec=LOG_PERIOD_SEC, skip_first=True)
        message = StepTelemetry(
            instruction=self._instruction, hold=True, source="hold", reason=str(hold)
        )
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.ages = telemetry.ages_message(self._session.buffer, self._instruction_age(now), now)
        self._publish(message, STOP)

    def _end_hold(self) -> None:
        if self.holds.update(None):
            self._quiet_since = time.monotonic_ns()
            self._node.get_logger().info("hold ended")

    def _on_republish(self) -> None:
        if self._command is not None and self._overdue(time.monotonic_ns()) is None:
            self._outputs.send_twist(self._command.twist, self._stamp())

    def _stamp(self) -> Time:
        """Stamp of a twist.

        Stamped with observations, a stop has the stamp of the last one that was acted on: it
        answers no newer one, so it does not advance a simulation in lock-step.
        """
        if self._parameters.stamp == "observation":
            return telemetry.time_message(self._answered)
        return self._node.get_clock().now().to_msg()

    def _instruction_age(self, now: int) -> float:
        return (now - self._instruction_since) / NANOSECONDS

    def _publish(self, message: StepTelemetry, command: Command) -> None:
        message.header.frame_id = self._parameters.frame_id
        message.step = self.step
        message.twist = np.asarray(command.twist, np.float64)
        message.gripper = self._gripper.position
        motion = self._session.motion
        message.metric = telemetry.metric_message(motion.kind, motion.latest)
        self._telemetry.publish(message)

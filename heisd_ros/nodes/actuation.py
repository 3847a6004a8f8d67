"""What every commander does with the arm: it executes a step, or is held for a named reason.

The policy (`policy_steps`) and a person (`person_steps`) command the arm in turn, through this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import astuple

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node

from heisd_ros.control.commands import GripperSwitch
from heisd_ros.control.holds import FRESH_START, Hold, HoldReason, HoldTracker
from heisd_ros.control.inference import Inference
from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.control.session import Session
from heisd_ros.control.watch import Watch
from heisd_ros.decoding.chunks import ChunkExecutor
from heisd_ros.decoding.types import Source
from heisd_ros.msg import ArmStatus, StepTelemetry
from heisd_ros.nodes import telemetry
from heisd_ros.nodes.driver import ArmDriver
from heisd_ros.nodes.gripper import GripperOutput
from heisd_ros.nodes.person import Person
from heisd_ros.nodes.servo import ServoSetup
from heisd_ros.nodes.status import hold_status, limit_status
from heisd_ros.nodes.step_reports import StepReports
from heisd_ros.robot.parameters import VlaNodeParameters

LOG_PERIOD_SEC = 5.0
"""How often a continuing hold is logged again."""


class Actuation:
    """Executes control steps, or holds the arm, and reports both.

    Args:
        node: The node that owns the publishers.
        session: What was configured.
        driver: Commands the arm.
        person: Whoever may take the arm over from the policy.
        watch: Knows the instruction, and is told when a hold ends.
        veto: Returns a reason of the node to hold the arm, such as an emergency stop.
        report: Takes the telemetry of every step and hold.

    Attributes:
        holds: The hold in force and the counts of all since activation.
        sources: Number of steps by what decided them.
        chunks: Which action of the model's answers is due; a hold drops what is left of them.
        gripper: Decides when the gripper is commanded.
        fingers: Sends the gripper's commands, and knows their outcome.
        reports: The telemetry of steps and holds.
        broken: A failure of the node's own, which holds the arm until the next activation.
        clocked: Whether commands follow a clock; otherwise each step is sent at once.
    """

    def __init__(
        self,
        node: Node,
        session: Session,
        driver: ArmDriver,
        person: Person,
        watch: Watch,
        veto: Callable[[], Hold | None],
        report: Callable[[StepTelemetry], None],
    ) -> None:
        parameters = session.parameters
        self.holds = HoldTracker()
        self.sources: Counter[Source] = Counter()
        self.chunks: ChunkExecutor[Inference] = ChunkExecutor(
            round(NANOSECONDS / session.mapper.rate_hz), *astuple(parameters.chunk)
        )
        self.gripper = GripperSwitch(parameters)
        with ExitStack() as undo:
            self._servo = ServoSetup(node, parameters)
            undo.callback(self._servo.close)
            self.fingers = GripperOutput(node, parameters)
            undo.pop_all()
        self.reports = StepReports(node, session, driver, person, watch, self.gripper, report)
        self.broken: Hold | None = None
        self.clocked = parameters.command.rate_hz > 0.0
        self._node, self._session, self._driver = node, session, driver
        self._person, self._watch, self._veto = person, watch, veto
        self._observation_stamps = parameters.command.stamp == "observation"
        self._answered = 0  # stamp of the observation that the newest command answers, ns

    @property
    def status(self) -> ArmStatus:
        """Status of the arm."""
        hold, commander = self.holds.current, self._person.commander
        if hold:
            return hold_status(hold, commander)
        return limit_status(self._driver.notes, self._driver.twist, commander)

    def problem(self, inputs: Hold | None) -> Hold | None:
        """Returns the hold that applies to whoever commands, with what is wrong with the inputs."""
        held = self.broken or self._veto() or self._servo.problem()
        return held or inputs or self._driver.problem()

    def execute(
        self,
        motion: np.ndarray,
        action: np.ndarray,
        opening: float | None,
        source: Source,
        message: StepTelemetry,
        *,
        answered: int,
        since: int,
    ) -> None:
        """Executes a control step; with a clock, its command follows at the next tick.

        Args:
            motion: Wanted, as `CommandMapper.motion` gives it.
            action: [D], the same in the model's units.
            opening: Opening of the gripper to send, m; None: none is due.
            source: What decided the step.
            message: Its telemetry, published once its command was sent.
            answered: Stamp of the observation that it answers, ns; 0: there was none yet.
            since: Steady time from which its latency counts, ns.
        """
        self._answered = answered or self._answered
        # The gripper first: a simulation in lock-step advances when the twist arrives.
        if opening is not None:
            self.fingers.send(opening)
        self.reports.drop("replaced")
        self._driver.move(motion, action)
        self.sources[source] += 1
        self.reports.acted(message, since)
        if not self.clocked:
            self.send()

    def send(self) -> None:
        """Sends the command of this tick; if it is the first of an action, reports the action."""
        self._driver.send(self.stamp())
        self.reports.sent()

    def hold(self, hold: Hold, now: int, tell: bool = True) -> None:
        """Halts the arm; called at every tick of the watchdog until the reason is gone.

        Args:
            hold: The reason.
            now: Steady time, ns.
            tell: Whether to repeat the stop and the telemetry if the reason is no news.
        """
        news = self.holds.update(hold)
        self.reports.drop("held")
        self.chunks.drop(now)
        if self._session.in_steps is not None:
            self._session.in_steps.drop()
        self._session.worker.ask()
        if self._person.changing_hands and hold.reason is HoldReason.TAKEOVER:
            self._driver.anchor()
        else:
            self._driver.hold()
        if not (news or tell):
            return
        if not self.clocked:
            self._driver.send(self.stamp())
        if news and hold.reason in FRESH_START:
            # Nothing seen before the fault may move the arm after it.
            self._session.buffer.discard()
            self._session.worker.restart(self._watch.instruction)
        elif news:
            self._session.worker.note_hold()
        if self.holds.due(now, int(LOG_PERIOD_SEC * NANOSECONDS)):
            self._node.get_logger().warning(f"arm held: {hold}")
        self.reports.held(hold, now)

    def end_hold(self, now: int) -> None:
        """Ends the hold, if any; the next action is due from now on."""
        if self.holds.update(None):
            self._watch.expect(now)
            self._node.get_logger().info("hold ended", throttle_duration_sec=1.0)

    def stop_gripper(self) -> None:
        """Cancels the gripper's motion, if any; the next action commands it again."""
        self.fingers.cancel()
        self.gripper = self.reports.gripper = GripperSwitch(self._session.parameters)

    def set_parameters(self, parameters: VlaNodeParameters) -> None:
        """Updates the live parameters; an arm in motion continues smoothly."""
        self._driver.set_limits(parameters)
        self.gripper.set_parameters(parameters)

    def close(self) -> None:
        """Ends the gripper's goals and leaves the servo node."""
        self.fingers.close()
        self._servo.close()

    def stamp(self) -> Time:
        """Returns the stamp of a command.

        Stamped with observations, a stop has the stamp of the last one that was acted on: it
        answers no newer one, so it does not advance a simulation in lock-step.
        """
        if self._observation_stamps:
            return telemetry.time_message(self._answered)
        return self._node.get_clock().now().to_msg()

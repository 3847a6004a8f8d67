"""Telemetry of the control loop: an action is told together with the command that came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
from rclpy.node import Node

from heisd_ros.control.commands import GripperSwitch
from heisd_ros.control.holds import Hold
from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.control.session import Session
from heisd_ros.control.watch import Watch
from heisd_ros.msg import StepTelemetry
from heisd_ros.nodes import telemetry
from heisd_ros.nodes.driver import ArmDriver
from heisd_ros.nodes.person import Person, PersonStep


class StepReports:
    """Completes and publishes the telemetry of steps and holds.

    Args:
        node: The node, for its clock.
        session: What was configured.
        driver: Knows the newest command.
        person: Whoever may have the arm.
        watch: Knows the instruction.
        publish: Takes each complete message.

    Attributes:
        step: Control steps since activation, holds not included.
        gripper: The gripper's commands; may be replaced.
    """

    def __init__(
        self,
        node: Node,
        session: Session,
        driver: ArmDriver,
        person: Person,
        watch: Watch,
        gripper: GripperSwitch,
        publish: Callable[[StepTelemetry], None],
    ) -> None:
        self.step, self.gripper = 0, gripper
        self._node, self._session, self._driver = node, session, driver
        self._person, self._watch, self._publish = person, watch, publish
        self._due: StepTelemetry | None = None  # of an action whose command is due at the tick
        self._since = 0  # steady time from which its latency counts, ns

    def acted(self, message: StepTelemetry, since: int) -> None:
        """Takes the telemetry of an action, told once its command was sent.

        Args:
            message: The step.
            since: Steady time from which its latency counts, ns.
        """
        self.step += 1
        self._due, self._since = message, since

    def sent(self) -> None:
        """Tells the action, if any, whose command was sent just now."""
        message, self._due = self._due, None
        if message is None:
            return
        message.latency.total = (time.monotonic_ns() - self._since) * 1e3 / NANOSECONDS
        if self._driver.limited:
            message.reason += f"; {self._driver.limited}"
        self._complete(message)

    def drop(self, why: str) -> None:
        """Tells an action that was never sent: another action or a hold came before the tick."""
        message, self._due = self._due, None
        if message is not None:
            message.reason += f"; {why} before its command was sent"
            self._complete(message)

    def held(self, hold: Hold, now: int) -> None:
        """Tells a hold, at a steady time, ns."""
        message = telemetry.hold_message(self._watch.instruction, hold)
        self._stamp(message, now)
        self._complete(message)

    def of_person(self, step: PersonStep, now: int) -> StepTelemetry:
        """Returns the telemetry of a person's step, for `acted`, at a steady time, ns."""
        message = telemetry.person_message(self._watch.instruction, step.action, step.reason)
        self._stamp(message, now)
        return message

    def _stamp(self, message: StepTelemetry, now: int) -> None:
        """Fills in the stamp and the ages of a message that answers no observation."""
        message.header.stamp = self._node.get_clock().now().to_msg()
        age = self._watch.instruction_age(now)
        message.ages = telemetry.ages_message(self._session.buffer, age, now)

    def _complete(self, message: StepTelemetry) -> None:
        settings, person, motion = self._session.parameters, self._person, self._session.motion
        message.header.frame_id = settings.command_frame
        message.step = self.step
        message.commander = person.commander
        message.disagreement = person.disagreement if person.taken else math.nan
        message.twist = np.asarray(self._driver.twist, np.float64)
        message.joints = self._driver.joints.tolist()
        message.dry_run = settings.dry_run
        message.gripper = self.gripper.position
        policy = self._session.policy
        boundary = math.nan if policy.bounds is None else policy.bounds.boundary
        boundary = boundary if policy.boundary is None else policy.boundary
        message.metric = telemetry.metric_message(motion.kind, motion.latest, boundary)
        self._publish(message)

"""The control loop of the active VLA node: who commands the arm, when, and how it all ends.

The policy (`policy_steps`) and a person (`person_steps`) command the arm in turn through
`actuation`; `driver` sends the commands, within the limits. All of them exist from activation to
deactivation. Everything runs in the executor's thread, which alone publishes commands, so a late
action never overtakes a stop.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from rclpy.node import Node

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.control.session import Session
from heisd_ros.control.tick_watch import TickWatch
from heisd_ros.control.watch import Watch
from heisd_ros.data.marks import Outcome
from heisd_ros.msg import ArmStatus, StepTelemetry
from heisd_ros.nodes.actuation import LOG_PERIOD_SEC, Actuation
from heisd_ros.nodes.clock import steady_timer
from heisd_ros.nodes.driver import ArmDriver
from heisd_ros.nodes.person import Person
from heisd_ros.nodes.person_steps import PersonSteps
from heisd_ros.nodes.policy_steps import PolicySteps
from heisd_ros.robot.parameters import VlaNodeParameters

HALT_SEC, IDLE_SEC, ACKNOWLEDGE_SEC = 3.0, 1.0, 1.0
"""How long a deactivation waits for the halt, for a running inference, and for the last command."""


class ControlLoop:
    """Lets the policy or a person command the arm, and stops it with a reason.

    Args:
        node: The node that owns publishers and timers.
        session: What was configured.
        report: Takes the telemetry of every step and hold.
        instruction: The instruction; may be empty.
        veto: Returns a reason of the node to hold the arm, such as an emergency stop.
        tell: Takes how each episode ended.

    Attributes:
        arm: Executes steps or holds the arm, and counts both.
        policy: The policy's steps.
        person: Whoever may take the arm over from the policy.
        ticks: How punctual commands are.
    """

    def __init__(
        self,
        node: Node,
        session: Session,
        report: Callable[[StepTelemetry], None],
        instruction: str,
        veto: Callable[[], Hold | None] = lambda: None,
        tell: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self._node, self._session, self._tell = node, session, tell
        command, teleop = session.parameters.command, session.parameters.teleop
        session.buffer.begin()
        session.motion.reset()
        self._watch = Watch(session.parameters, "", time.monotonic_ns())
        self._reported = 0  # the step at which an episode's end was reported last
        with ExitStack() as undo:  # a publisher that is left behind would be a rival for good
            self._driver = ArmDriver(node, session)
            undo.callback(self._driver.abandon)
            self.person = Person(
                node, session, self._driver, self._on_other_hands, self._on_person, self._on_button
            )
            undo.callback(self.person.close)
            self.arm = Actuation(
                node, session, self._driver, self.person, self._watch, veto, report
            )
            undo.pop_all()
        self.policy = PolicySteps(node, session, self.arm, self.person, self._watch, self._guarding)
        self._person_steps = PersonSteps(session, self.arm, self._driver, self.person, self._watch)
        self.ticks = TickWatch(self._driver.tick_sec, command.late_share, command.late_limit)
        self.policy.take_instruction(instruction)

        periods = [(session.parameters.watchdog_hz, self._on_watchdog)]
        if teleop.enabled:
            periods.append((session.mapper.rate_hz, self._person_steps.step))
        if self.arm.clocked:
            periods.append((command.rate_hz, self._on_tick))
        self._timers = [
            steady_timer(node, 1.0 / rate, self._guarding(callback)) for rate, callback in periods
        ]

    def set_instruction(self, text: str) -> None:
        """Acts on this instruction from now on; running inference for another is dropped."""
        self.policy.take_instruction(text)
        self.check()

    def end_episode(self, outcome: Outcome) -> str:
        """Records how the episode ended; the arm continues with the instruction.

        Returns:
            Why the report is refused; empty if it was recorded.
        """
        if self.step == self._reported:
            # A second press must neither count as another episode nor loosen the skipping again.
            return "no control step since the last report or since activation"
        self._reported = self.step
        self.policy.end_episode(outcome)
        self._tell(outcome)
        return ""

    def set_parameters(self, parameters: VlaNodeParameters) -> None:
        """Updates the live parameters; an arm in motion continues smoothly."""
        self._watch.parameters = parameters
        self.arm.set_parameters(parameters)
        self.person.set_parameters(parameters)

    @property
    def step(self) -> int:
        """Control steps since activation, holds not included."""
        return self.arm.reports.step

    @property
    def limit_counts(self) -> Counter[str]:
        """Number of commands since activation that a limit reduced, by the kind of limit."""
        return self._driver.counts

    @property
    def status(self) -> ArmStatus:
        """Status of the arm."""
        return self.arm.status

    def close(self) -> None:
        """Stops inference, halts the arm, sends a last stop and destroys the command publishers.

        A hanging inference is waited for no longer than `IDLE_SEC`, once the arm has stopped.
        """
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self.person.close()
        self.policy.close()
        self._driver.begin_close()
        deadline = time.monotonic() + HALT_SEC
        while True:
            if self.arm.clocked:  # not before a tick after the last command, as ever
                time.sleep(self._driver.tick_sec)
            self._driver.send(self.arm.stamp())
            if self._driver.at_rest or time.monotonic() > deadline:
                break
        self._session.worker.wait_idle(IDLE_SEC)
        if not self._driver.close(self.arm.stamp(), ACKNOWLEDGE_SEC):
            self._node.get_logger().warning(
                "the stop command was not acknowledged by every subscriber"
            )
        self.arm.close()

    def check(self) -> None:
        """Checks now whether the arm has to be held, without waiting for the watchdog."""
        self._guarding(self._on_watchdog)()

    def on_inference(self) -> None:
        """Takes the result that is ready, if any."""
        self._guarding(self.policy.take_result)()

    def fail(self, error: Exception, where: str = "") -> None:
        """Halts the arm after a failure on the way to a command, until the next activation.

        A halt needs neither pose nor posture; if even that fails, the process ends.

        Args:
            error: The exception.
            where: What raised it; empty: the control loop.
        """
        words = f"{type(error).__name__}: {error}; held until the node is activated again"
        hold = Hold(HoldReason.CONTROL_ERROR, f"{where}: {words}" if where else words)
        # Reading the arm's state may be what fails, at every tick: the halt is sent without it.
        self._driver.begin_close()
        self.arm.broken = hold
        self.arm.hold(hold, time.monotonic_ns())

    def _guarding(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Returns a callback after whose failure the arm is held."""
        return partial(self._guarded, callback)

    def _guarded(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception as error:
            self._node.get_logger().error(traceback.format_exc())
            self.fail(error)

    def _on_watchdog(self) -> None:
        now = time.monotonic_ns()
        if self.person.taken:
            self._person_steps.follow(now, tell=True)
        elif hold := self.policy.problem(now):
            self.arm.hold(hold, now)
        else:
            self.arm.end_hold(now)
            self.policy.ask(now)

    def _on_tick(self) -> None:
        # From now, and not from when it was due: after a late tick the next must not come early, or
        # the arm would have to accelerate by more than the limit.
        self._timers[-1].reset()
        now = time.monotonic_ns()
        self.ticks.note(now)
        if warning := self.ticks.warning():
            self._node.get_logger().warning(warning, throttle_duration_sec=LOG_PERIOD_SEC)
        if self.person.taken:
            self._person_steps.follow(now)
        else:
            if self.arm.holds.current is None:
                self.policy.advance(now)
            hold = self._watch.overdue(now) if self.arm.holds.current is None else None
            if hold is not None:
                self.arm.hold(hold, now)
        self.arm.send()

    def _on_person(self) -> None:
        if self.person.taken:
            self._guarded(lambda: self._person_steps.follow(time.monotonic_ns()))

    def _on_button(self, outcome: Outcome) -> None:
        if problem := self.end_episode(outcome):
            self._node.get_logger().warning(f"{outcome.value} is not recorded: {problem}")

    def _on_other_hands(self, how: str) -> None:
        self._node.get_logger().warning(how)
        self.arm.reports.drop("changed hands")
        self.check()

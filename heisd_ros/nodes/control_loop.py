"""The control loop of the active VLA node: acts on results, holds on faults, watches ages.

What the arm should do is decided here; `driver` commands it, within the limits. Both exist
from activation to deactivation. Everything runs in the executor's thread, which alone publishes
commands, so a late action never overtakes a stop.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple, replace
from functools import partial

from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from heisd_ros.control import growth
from heisd_ros.control.commands import GripperSwitch
from heisd_ros.control.holds import FRESH_START, Hold, HoldReason, HoldTracker
from heisd_ros.control.inference import Inference
from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.control.session import Session
from heisd_ros.control.tick_watch import TickWatch
from heisd_ros.control.watch import Watch
from heisd_ros.data.marks import Outcome
from heisd_ros.decoding.chunks import ChunkExecutor, Due, step_of
from heisd_ros.decoding.types import ChunkPlace, Source, StepResult
from heisd_ros.msg import ArmStatus, StepLatency, StepTelemetry
from heisd_ros.nodes import telemetry
from heisd_ros.nodes.driver import ArmDriver
from heisd_ros.nodes.gripper import GripperOutput
from heisd_ros.nodes.one_shot import OneShot
from heisd_ros.nodes.person import Person
from heisd_ros.nodes.servo import ServoSetup
from heisd_ros.nodes.status import hold_status, limit_status
from heisd_ros.nodes.step_reports import StepReports
from heisd_ros.robot.parameters import VlaNodeParameters

HALT_SEC, IDLE_SEC, ACKNOWLEDGE_SEC = 3.0, 1.0, 1.0
"""How long a deactivation waits for the halt, for a running inference, and for the last command."""
LOG_PERIOD_SEC = 5.0
"""How often a continuing hold is logged again."""


class ControlLoop:
    """Turns results of the inference thread into commands, or stops the arm with a reason.

    Args:
        node: The node that owns publishers and timers.
        session: What was configured.
        report: Takes the telemetry of every step and hold.
        instruction: The instruction; may be empty.
        veto: Returns a reason of the node to hold the arm, such as an emergency stop.
        tell: Takes how each episode ended.

    Attributes:
        holds: The hold in force and the counts of all since activation.
        sources: Number of those steps by their source.
        shadow: Skipped steps that were verified later, and those that disagreed.
        acted_at: Steady time of the newest action, ns; None before the first.
        latency: Where the time of the newest step went; None before the first.
        ticks: How punctual commands are.
        chunks: Which action of the model's answers is due.
        place: Of the newest action in its chunk; None before the first.
        fingers: Sends the gripper's commands, and knows their outcome.
        person: Whoever may take the arm over from the policy.
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
        self.holds = HoldTracker()
        self.sources: Counter[str] = Counter()
        self.shadow: Counter[str] = Counter(checked=0, disagreed=0)
        self.acted_at: int | None = None
        self.latency: StepLatency | None = None
        self.place: ChunkPlace | None = None
        self._node, self._session = node, session
        self._parameters, self._growth = session.parameters, session.policy.growth
        self._veto, self._tell = veto, tell
        self._driver = ArmDriver(node, session)
        step_ns = round(NANOSECONDS / session.mapper.rate_hz)
        self.chunks: ChunkExecutor[Inference] = ChunkExecutor(
            step_ns, *astuple(self._parameters.chunk)
        )
        self._servo = ServoSetup(node, self._parameters)
        self._gripper = GripperSwitch(self._parameters)
        self.fingers = GripperOutput(node, self._parameters)
        command = self._parameters.command
        self._clocked = command.rate_hz > 0.0
        self.ticks = TickWatch(self._driver.tick_sec, command.late_share, command.late_limit)
        self._broken: Hold | None = None  # a failure of our own: held until the next activation
        self.person = Person(
            node, session, self._driver, self._on_other_hands, self._on_person, self._on_button
        )
        self._reported = 0  # the step at which an episode's end was reported last
        self._answered = 0  # stamp of the observation that the newest command answers, ns
        session.buffer.begin()
        session.motion.reset()
        self._watch = Watch(self._parameters, "", time.monotonic_ns())
        self._reports = StepReports(
            node, session, self._driver, self.person, self._watch, self._gripper, report
        )
        self._take(instruction)

        steady = Clock(clock_type=ClockType.STEADY_TIME)
        periods = [(self._parameters.watchdog_hz, self._on_watchdog)]
        if self._parameters.teleop.enabled:
            periods.append((session.mapper.rate_hz, self._on_person_step))
        if self._clocked:
            periods.append((command.rate_hz, self._on_tick))
        self._timers = [
            node.create_timer(1.0 / rate, partial(self._guarded, callback), clock=steady)
            for rate, callback in periods
        ]
        # Without a clock, a later action of a chunk is sent when it is due.
        self._due = OneShot(node, partial(self._guarded, self._on_due))

    def set_instruction(self, text: str) -> None:
        """Acts on this instruction from now on; running inference for another is dropped."""
        self._take(text)
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
        success = outcome is Outcome.SUCCESS
        if self._growth is not None:
            self._growth.end(success)
        if outcome is Outcome.DISCARD:
            self._session.worker.restart(self._watch.instruction)
        else:
            self._session.worker.end_episode(success)
        self._tell(outcome)
        self.chunks.drop(time.monotonic_ns(), "the episode ended")
        return ""

    def _on_button(self, outcome: Outcome) -> None:
        problem = self.end_episode(outcome)
        if problem:
            self._node.get_logger().warning(f"{outcome.value} is not recorded: {problem}")

    def stop_gripper(self) -> None:
        """Cancels the gripper's motion, if any; the next action commands it again."""
        self.fingers.cancel()
        self._gripper = self._reports.gripper = GripperSwitch(self._parameters)

    def set_parameters(self, parameters: VlaNodeParameters) -> None:
        """Updates the live parameters; an arm in motion continues smoothly."""
        self._parameters = self._watch.parameters = parameters
        self._driver.set_limits(parameters)
        self._gripper.set_parameters(parameters)
        self.person.set_parameters(parameters)

    def _take(self, text: str) -> None:
        now = time.monotonic_ns()
        self.chunks.drop(now, "another instruction was given")
        self._watch.take(text, now)
        self._session.worker.restart(self._watch.instruction)
        if self._growth is not None:
            self._growth.end(success=False)  # the outcome of the last one was not reported

    @property
    def step(self) -> int:
        """Control steps since activation, holds not included."""
        return self._reports.step

    @property
    def limit_counts(self) -> Counter[str]:
        """Number of commands since activation that a limit reduced, by the kind of limit."""
        return self._driver.counts

    @property
    def status(self) -> ArmStatus:
        """Status of the arm."""
        hold, commander = self.holds.current, self.person.commander
        if hold:
            return hold_status(hold, commander)
        return limit_status(self._driver.notes, self._driver.twist, commander)

    def close(self) -> None:
        """Stops inference, halts the arm, sends a last stop and destroys the command publishers.

        A hanging inference is waited for no longer than `IDLE_SEC`, once the arm has stopped.
        """
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self.person.close()
        self._due.close()
        self._session.worker.restart("")
        self._driver.begin_close()
        deadline = time.monotonic() + HALT_SEC
        while True:
            if self._clocked:  # not before a tick after the last command, as ever
                time.sleep(self._driver.tick_sec)
            self._driver.send(self._stamp())
            if self._driver.at_rest or time.monotonic() > deadline:
                break
        self._session.worker.wait_idle(IDLE_SEC)
        if not self._driver.close(self._stamp(), ACKNOWLEDGE_SEC):
            self._node.get_logger().warning(
                "the stop command was not acknowledged by every subscriber"
            )
        self.fingers.close()
        self._servo.close()

    def check(self) -> None:
        """Checks now whether the arm has to be held, without waiting for the watchdog."""
        self._guarded(self._on_watchdog)

    def on_inference(self) -> None:
        """Takes the result that is ready, if any."""
        self._guarded(self._on_inference)

    def fail(self, error: Exception, where: str = "") -> None:
        """Halts the arm after a failure on the way to a command, until the next activation.

        A halt needs neither pose nor posture; if even that fails, the process ends.

        Args:
            error: The exception.
            where: What raised it; empty: the control loop.
        """
        words = f"{type(error).__name__}: {error}; held until the node is activated again"
        self._broken = Hold(HoldReason.CONTROL_ERROR, f"{where}: {words}" if where else words)
        # Reading the arm's state may be what fails, at every tick: the halt is sent without it.
        self._driver.begin_close()
        self._hold(self._broken, time.monotonic_ns())

    def _guarded(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception as error:
            self._node.get_logger().error(traceback.format_exc())
            self.fail(error)

    def _on_inference(self) -> None:
        inference = self._session.worker.collect()
        if inference is None:
            return
        now = time.monotonic_ns()
        if inference.trace:
            self._node.get_logger().error(inference.trace, throttle_duration_sec=LOG_PERIOD_SEC)
        outcome, fault = inference.outcome, self._watch.judge(inference, now)
        if self.person.taken:
            self.person.shadow(inference, self._session.buffer.problem(now) or fault)
            self._session.worker.ask()
            return
        if fault is not None:
            self._hold(self._outside(now) or fault, now)
        elif isinstance(outcome, StepResult):
            self.chunks.take(outcome.actions, inference.observation.complete, now, inference)
            self._advance(now)

    def _advance(self, now: int) -> None:
        """Begins the action that is due now, if any, and asks for the next chunk in time."""
        due = self.chunks.advance(now)
        if due is not None:
            self._begin(due, now)
        hold = self._no_chunk()
        if hold is not None and self.holds.current is None:
            self._hold(hold, now)
        if self.chunks.wants_next(now):
            self._session.worker.ask()
        if not self._clocked:
            self._due.set(self.chunks.next_change(now))

    def _begin(self, due: Due[Inference], now: int) -> None:
        inference, result = due.answer, due.answer.outcome
        assert isinstance(result, StepResult), "a hold has no actions"
        problem = self._outside(now) or self._watch.late(inference.observation, now)
        if problem is not None:
            self._hold(problem, now)
            return
        if not due.first:  # only the first action had to wait for the model
            inference = replace(inference, settled=None, wait_ms=0.0, convert_ms=0.0)
        self._act(inference, step_of(due, result), now)

    def _on_due(self) -> None:
        if not self.person.taken:
            self._advance(time.monotonic_ns())

    def _no_chunk(self) -> Hold | None:
        """Returns the hold between a chunk of several actions and the next one."""
        why = self.chunks.awaited
        return Hold(HoldReason.NO_CHUNK, f"{why}; the next one is awaited") if why else None

    def _act(self, inference: Inference, result: StepResult, now: int) -> None:
        self._end_hold()
        mapper, action = self._session.mapper, result.action
        self._answered = inference.observation.stamp
        opening = self._gripper.update(mapper.gripper_openness(action), now / NANOSECONDS)
        # The gripper first: a simulation in lock-step advances when the twist arrives.
        if opening is not None:
            self.fingers.send(opening)
        if self._growth is not None:
            growth.note(self._growth, inference.instruction, result)
        self._reports.drop("replaced")
        self._driver.move(mapper.motion(action), action)
        self.place = result.place
        self.sources[result.source] += 1
        if inference.settled is not None:
            self.shadow["checked"] += 1
            self.shadow["disagreed"] += not inference.settled.agrees
        self.acted_at = now
        self._watch.expect(now)
        age = self._watch.instruction_age(now)
        message = telemetry.step_message(inference, result, age, now)
        self.latency = message.latency
        self._reports.acted(message, inference.observation.complete)
        if not self._clocked:
            self._send()

    def _send(self) -> None:
        """Sends the command of this tick; if it is the first of an action, reports the action."""
        self._driver.send(self._stamp())
        self._reports.sent()

    def _on_watchdog(self) -> None:
        now = time.monotonic_ns()
        if self.person.taken:
            self._follow_person(now, tell=True)
            return
        inferring_sec = self._session.worker.inferring_sec(now)
        hold = self._outside(now) or self._watch.problem(now, inferring_sec) or self._no_chunk()
        if hold:
            self._hold(hold, now)
        else:
            self._end_hold()
            if self.chunks.wants_next(now):
                self._session.worker.ask()

    def _outside(self, now: int) -> Hold | None:
        """Returns the hold that applies whatever the policy decides."""
        return self._of_arm(self._session.buffer.problem(now)) or self.person.hand_over(
            self._watch, now
        )

    def _of_arm(self, inputs: Hold | None) -> Hold | None:
        """Returns the hold that applies to whoever commands with these inputs."""
        held = self._broken or self._veto() or self._servo.problem()
        return held or inputs or self._driver.problem()

    def _follow_person(self, now: int, tell: bool = False) -> bool:
        """Lets the person who has the arm move it, or holds it.

        A person needs no pictures, no instruction and no model: only what concerns the arm itself
        holds it.

        Args:
            now: Steady time, ns.
            tell: Whether telemetry tells a hold that is no news.

        Returns:
            Whether the person moves it.
        """
        person = self.person
        hold = self._of_arm(self._session.buffer.joint_problem(now))
        if hold is not None:
            person.takeover.disarm()
        hold = hold or self.person.hand_over(self._watch, now) or person.takeover.problem(now)
        if hold is not None:
            self._hold(hold, now, tell)
            return False
        self._end_hold()
        self._driver.move(person.twist(now), None)
        return True

    def _on_person(self) -> None:
        if self.person.taken:
            self._guarded(lambda: self._follow_person(time.monotonic_ns()))

    def _on_other_hands(self, how: str) -> None:
        self._node.get_logger().warning(how)
        self._reports.drop("changed hands")
        self.check()

    def _on_person_step(self) -> None:
        """Takes a control step of the person's, as one of the policy's is taken."""
        now = time.monotonic_ns()
        if not self.person.taken or not self._follow_person(now):
            return
        step = self.person.step(self._gripper, self._watch.instruction, now)
        if step.opening is not None:
            self.fingers.send(step.opening)
        self._reports.drop("replaced")
        self._driver.move(step.twist, step.action)
        self.sources[Source.PERSON] += 1
        self._answered = step.answered or self._answered
        self._reports.person(step, now)
        if not self._clocked:
            self._send()

    def _hold(self, hold: Hold, now: int, tell: bool = True) -> None:
        """Halts the arm; called at every tick of the watchdog until the reason is gone.

        Args:
            hold: The reason.
            now: Steady time, ns.
            tell: Whether to repeat the stop and the telemetry if the reason is no news.
        """
        news = self.holds.update(hold)
        self._reports.drop("held")
        self.chunks.drop(now)
        if self._session.in_steps is not None:
            self._session.in_steps.drop()
        self._session.worker.ask()
        if self.person.changing_hands and hold.reason is HoldReason.TAKEOVER:
            self._driver.anchor()
        else:
            self._driver.hold()
        if not (news or tell):
            return
        if not self._clocked:
            self._driver.send(self._stamp())
        if news and hold.reason in FRESH_START:
            # Nothing seen before the fault may move the arm after it.
            self._session.buffer.discard()
            self._session.worker.restart(self._watch.instruction)
        elif news:
            self._session.worker.note_hold()
        if self.holds.due(now, int(LOG_PERIOD_SEC * NANOSECONDS)):
            self._node.get_logger().warning(f"arm held: {hold}")
        self._reports.held(hold, now)

    def _end_hold(self) -> None:
        if self.holds.update(None):
            self._watch.expect(time.monotonic_ns())
            self._node.get_logger().info("hold ended", throttle_duration_sec=1.0)

    def _on_tick(self) -> None:
        # From now, and not from when it was due: after a late tick the next must not come early, or
        # the arm would have to accelerate by more than the limit.
        self._timers[-1].reset()
        now = time.monotonic_ns()
        self.ticks.note(now)
        if warning := self.ticks.warning():
            self._node.get_logger().warning(warning, throttle_duration_sec=LOG_PERIOD_SEC)
        if self.person.taken:
            self._follow_person(now)
        else:
            if self.holds.current is None:
                self._advance(now)
            hold = self._watch.overdue(now) if self.holds.current is None else None
            if hold is not None:
                self._hold(hold, now)
        self._send()

    def _stamp(self) -> Time:
        """Returns the stamp of a command.

        Stamped with observations, a stop has the stamp of the last one that was acted on: it
        answers no newer one, so it does not advance a simulation in lock-step.
        """
        if self._parameters.command.stamp == "observation":
            return telemetry.time_message(self._answered)
        return self._node.get_clock().now().to_msg()

"""The action server `~/execute`: takes an instruction, reports progress and the outcome.

One goal at a time; a second one is rejected, so that its client knows that the arm is in use.
Everything runs in the executor's thread, and nothing blocks it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from rclpy.timer import Timer

from heisd_ros.action import Execute
from heisd_ros.control.holds import HoldReason
from heisd_ros.data.marks import Outcome
from heisd_ros.decoding.types import Source
from heisd_ros.msg import StepTelemetry
from heisd_ros.nodes.clock import steady_timer
from heisd_ros.robot.instruction import instruction_problem

CANCELLED, TIMEOUT, PREEMPTED = "cancelled", "timeout", "preempted"
DEACTIVATED = "deactivated"
"""Outcomes of a goal other than holds, as listed in action/Execute.action."""
LOG_PERIOD_SEC = 1.0
MAX_TIMEOUT_SEC = 86_400
"""Longest timeout of a goal, s: a day. A timer in nanoseconds would overflow at 292 years."""


class ExecuteServer:
    """Serves `~/execute` for a node that acts on instructions.

    rclpy busy-waits in the executor while one of its coroutines is pending, which would starve
    inference. So a goal stays "accepted" while it is acted on, and is "executing"
    only for the moment in which it ends.

    Args:
        node: The node that owns the server.
        refusal: Returns why the node refuses instructions now; empty if it accepts them.
        set_instruction: Makes the node act on a text.
        clear_instruction: Ends that: the arm is held unless the node acts on another text by now.
    """

    def __init__(
        self,
        node: Node,
        refusal: Callable[[], str],
        set_instruction: Callable[[str], None],
        clear_instruction: Callable[[str], None],
    ) -> None:
        self._node, self._refusal = node, refusal
        self._set_instruction, self._clear_instruction = set_instruction, clear_instruction
        self._goal: ServerGoalHandle | None = None
        self._outcome = ""
        self._said = Execute.Feedback()  # the newest feedback of the current goal
        self._timer: Timer | None = None
        # A goal ends in a callback of its own: when a client cancels, rclpy marks the goal as being
        # cancelled only after the callback that agrees to it.
        self._ending = node.create_guard_condition(self._finish)
        self._server = ActionServer(
            node,
            Execute,
            "~/execute",
            execute_callback=self._conclude,
            goal_callback=self._may_start,
            handle_accepted_callback=self._start,
            cancel_callback=self._cancel,
        )

    @property
    def busy(self) -> bool:
        """Whether there is a goal whose result was not made yet."""
        return self._goal is not None

    def destroy(self) -> None:
        """Destroys the action server."""
        self._stop_timer()
        self._server.destroy()
        self._node.destroy_guard_condition(self._ending)

    def end(self, outcome: str) -> None:
        """Ends the current goal, if any; the arm is held unless the goal was preempted."""
        if self._goal is not None and not self._outcome:
            self._outcome = outcome
            self._ending.trigger()

    def report(self, message: StepTelemetry, plain_ms: float) -> None:
        """Sends feedback on a control step or a hold to the client of the current goal, if any.

        Args:
            message: What the node did.
            plain_ms: Time that plain decoding takes for one step.
        """
        if self._goal is None or self._outcome:
            return
        feedback = self._said
        feedback.source, feedback.reason = message.source, message.reason
        feedback.metric, feedback.speedup = message.metric.value, math.nan
        feedback.instruction, feedback.reasoning = message.instruction, message.reasoning
        if not message.hold:
            feedback.step += 1
            decided = message.passes or message.latency.inference  # no later action of a chunk
            if decided and message.source != Source.PERSON:
                feedback.speedup = plain_ms / max(message.latency.inference, 1e-6)
        self._goal.publish_feedback(feedback)
        reason = message.reason.partition(":")[0]
        if message.hold and reason == HoldReason.UNKNOWN_INSTRUCTION:
            self.end(f"held: {message.reason}")

    def end_episode(self, outcome: Outcome) -> None:
        """Tells the client of the current goal, if any, how an episode ended; the goal goes on."""
        if self._goal is None:
            return
        self._said.episodes += 1
        self._said.episode = outcome.value
        if not self._outcome:  # else the result tells it
            self._goal.publish_feedback(self._said)

    def _may_start(self, request: Execute.Goal) -> GoalResponse:
        problem = self._refusal() or self._problem(request)
        if problem:
            self._node.get_logger().warning(
                f"goal rejected: {problem}", throttle_duration_sec=LOG_PERIOD_SEC
            )
        return GoalResponse.REJECT if problem else GoalResponse.ACCEPT

    def _problem(self, request: Execute.Goal) -> str:
        """Returns what is wrong with a goal; empty if nothing is."""
        if self._goal is not None:
            return f"another goal is acted on: {self._goal.request.instruction!r}; cancel it"
        if not request.instruction.strip():
            return "instruction is empty; accepted: what to do, in words"
        if not 0.0 <= request.timeout_sec <= MAX_TIMEOUT_SEC:
            return f"timeout_sec is {request.timeout_sec}; accepted: 0 (none) to {MAX_TIMEOUT_SEC}"
        return instruction_problem(request.instruction)

    def _start(self, goal: ServerGoalHandle) -> None:
        self._set_instruction(goal.request.instruction)
        self._goal, self._outcome = goal, ""
        self._said = Execute.Feedback(
            metric=math.nan, speedup=math.nan, instruction=goal.request.instruction
        )
        seconds = goal.request.timeout_sec
        if seconds > 0.0:
            self._timer = steady_timer(self._node, seconds, self._on_timeout)

    def _cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        self.end(CANCELLED)
        return CancelResponse.ACCEPT

    def _on_timeout(self) -> None:
        self._stop_timer()
        self.end(TIMEOUT)

    def _finish(self) -> None:
        goal = self._goal
        if goal is None or not self._outcome:
            return
        self._stop_timer()
        if self._outcome != PREEMPTED:
            self._clear_instruction(goal.request.instruction)
        self._node.get_logger().info(f"goal ended: {self._outcome}")
        goal.execute()

    def _conclude(self, goal: ServerGoalHandle) -> Execute.Result:
        said = self._said
        result = Execute.Result(
            outcome=self._outcome, steps=said.step, episodes=said.episodes, episode=said.episode
        )
        self._goal = None
        if goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return result

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            self._node.destroy_timer(timer)

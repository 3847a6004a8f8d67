"""The VLA node: maps observations to end-effector commands. See docs/nodes.md.

This file has the lifecycle and the subscriptions. Observations are handled in `control.ingest`,
`control.worker` and `control_loop`; what exists between configure and cleanup is in
`control.session`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.control.inputs import image_inputs
from heisd_ros.control.policy import PolicyLoader, free_memory, load_policy
from heisd_ros.control.session import Session, open_session
from heisd_ros.data.marks import Outcome
from heisd_ros.errors import JointStateError
from heisd_ros.kinematics.urdf import MAX_CHARACTERS
from heisd_ros.msg import ArmStatus, StepTelemetry
from heisd_ros.nodes import optional, qos
from heisd_ros.nodes.clock import clock_problem
from heisd_ros.nodes.control_loop import ControlLoop
from heisd_ros.nodes.debug import DebugViews, session_views, workspace_box
from heisd_ros.nodes.declaration import check_names, declare, given, read
from heisd_ros.nodes.diagnostics import report
from heisd_ros.nodes.estop import EmergencyStop
from heisd_ros.nodes.execute import DEACTIVATED, PREEMPTED, ExecuteServer
from heisd_ros.nodes.guard import GuardedNode
from heisd_ros.nodes.input_topics import InputTopics
from heisd_ros.nodes.loop_services import LoopServices
from heisd_ros.nodes.process import StoppableNode, leave, realtime, run_node, spin
from heisd_ros.nodes.publishers import other_commanders, publishers
from heisd_ros.nodes.status import StatusTopic, hold_status
from heisd_ros.nodes.transitions import transition
from heisd_ros.nodes.updater import DiagnosticsUpdater
from heisd_ros.robot.declare import loosened, parameters_of, with_values
from heisd_ros.robot.instruction import instruction_problem
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.robot_arm import check_speeds, touching, unguarded
from heisd_ros.robot.robot_file import check_given
from heisd_ros.robot.safety_limits import in_force

STOP_TIMEOUT_SEC = 5.0
"""How long cleanup waits for a running inference, s; its result is dropped in any case."""

LIVE = frozenset(info.name for info in parameters_of(VlaNodeParameters) if info.live)
"""Parameters that may change between configure and cleanup."""

JOINT_STATES_DEPTH = 8
"""Arm, gripper and conflicting publishers share a topic: no message may displace another's."""
TELEMETRY_DEPTH = 100
"""Messages kept for a slow subscriber: telemetry is a record, not a command."""


class VlaNode(LifecycleNode, GuardedNode, StoppableNode):
    """Lifecycle node around a vision-language-action policy.

    Args:
        load: Loads the policy; tests pass their own.
        **kwargs: Passed on to rclpy's Node, for instance `context` or `parameter_overrides`.
    """

    def __init__(self, load: PolicyLoader = load_policy, **kwargs: Any) -> None:
        super().__init__("vla_node", **kwargs)
        self.guard_services()
        self._load = load
        self._refused = declare(self, VlaNodeParameters)
        self._given = given(self)
        self.autostart = bool(self.get_parameter("autostart").value)
        self.realtime_priority = int(self.get_parameter("executor.realtime_priority").value)
        self.add_on_set_parameters_callback(self._may_set)
        self.add_post_set_parameters_callback(self._was_set)
        self.finished: Callable[[], None] = lambda: None  # called at the end of the lifecycle
        self._session: Session | None = None
        self._control: ControlLoop | None = None
        self._instruction = ""
        self._views: DebugViews | None = None
        self._inputs = InputTopics(self)
        self._wake = self.create_guard_condition(self._on_inference)
        deep = qos.reliable(TELEMETRY_DEPTH)
        self._telemetry = qos.publisher(self, StepTelemetry, "~/telemetry", deep)
        self._execute = ExecuteServer(
            self, self._refusal, self._set_instruction, self._clear_instruction
        )
        self._estop = EmergencyStop(self, self._on_estop)
        self._status = StatusTopic(self, self._arm_status)
        DiagnosticsUpdater(self, lambda: report(self._session, self._control, self._estop.latched))
        self._loop_services = LoopServices(self, lambda: self._control)

    @transition
    def on_configure(self) -> None:
        """Loads and warms up the model, then subscribes."""
        if self._refused:
            raise ValueError("; ".join(self._refused.values()))
        parameters = read(self, VlaNodeParameters)
        self._check_given(parameters)
        if not parameters.dry_run:  # a dry run asks no other node
            optional.check(parameters)
        self._session = open_session(parameters, self._load, self._wake.trigger)
        self._set_instruction(parameters.instruction)
        self._subscribe(self._session)
        self._views = session_views(self, self._session)
        self.get_logger().info(f"configured: {self._session.summary}")
        self._say_guards(self._session)

    @transition
    def on_activate(self) -> None:
        """Creates the command publishers and acts on observations from now on."""
        assert self._session is not None, "rclpy activates only what was configured"
        self._control = ControlLoop(
            self,
            self._session,
            self._report,
            self._instruction,
            self._veto,
            self._on_episode_end,
        )

    @transition
    def on_deactivate(self) -> None:
        """Stops the arm, sends a last stop, and destroys the command publishers."""
        self._halt()

    @transition
    def on_cleanup(self) -> None:
        """Frees the model and destroys the subscriptions."""
        self.stop()

    @transition
    def on_shutdown(self) -> None:
        """Stops the arm and frees everything, from any state; then the process ends."""
        self.stop()
        self.finished()

    @transition
    def on_error(self) -> None:
        """Stops the arm, frees everything, and returns to unconfigured."""
        self.stop()

    def stop(self) -> None:
        """Stops the arm and frees everything, whatever the state."""
        self._halt()
        self._inputs.close()
        views, self._views = self._views, None
        if views is not None:
            views.close()
        session, self._session = self._session, None
        if session is not None and not session.worker.stop(STOP_TIMEOUT_SEC):
            self.get_logger().error(
                f"the inference thread did not end within {STOP_TIMEOUT_SEC:g} s; left behind"
            )
        if session is not None:
            session.policy.close()
            del session
            free_memory()

    @property
    def owes_results(self) -> bool:
        """Whether the client of a goal still waits for its result."""
        return self._execute.busy

    def _halt(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            control.close()
        self._execute.end(DEACTIVATED)
        self._status.update()

    def on_fault(self, where: str, error: Exception) -> None:
        """Holds the arm after an exception of a callback, until the node is activated again."""
        super().on_fault(where, error)
        if self._control is not None:
            self._control.fail(error, where)

    def destroy_node(self) -> None:
        """Destroys the action server as well, which rclpy does not do."""
        self._execute.destroy()
        super().destroy_node()

    def _subscribe(self, session: Session) -> None:
        compressed = session.parameters.input.compressed
        kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
        views = session.policy.views
        topics = [topic + suffix for topic in image_inputs(views)]
        for view, topic in enumerate(topics):
            self._inputs.listen(kind, topic, partial(self._on_image, view), qos.sensor_data())
        topics.append("~/input/joint_states")
        joints, health = qos.sensor_data(JOINT_STATES_DEPTH), session.buffer.joint_health
        self._inputs.listen(
            JointState,
            topics[-1],
            self._on_joints,
            joints,
            refuse=lambda fault: health.reject(fault, time.monotonic_ns()),
        )
        topic_of = dict(zip((*views, health.name), topics, strict=True))
        session.buffer.publishers = lambda name: publishers(self, topic_of[name])
        self._inputs.listen_twice(
            "~/input/instruction",
            self._on_latched_instruction,
            self._on_instruction,
            refuse=self._refuse_instruction,
        )
        if session.parameters.robot.source == "topic":
            self._inputs.listen_twice(
                "robot_description",
                self._on_robot,
                self._on_robot,
                refuse=self._refuse_robot,
                most_bytes=2 * MAX_CHARACTERS,
            )

    def _on_image(self, view: int, message: Image | CompressedImage) -> None:
        if self._session is not None:
            clock = self.get_clock().now().nanoseconds
            self._session.buffer.add_image(view, message, time.monotonic_ns(), clock)

    def _on_joints(self, message: JointState) -> None:
        if self._session is not None:
            clock = self.get_clock().now().nanoseconds
            self._session.buffer.add_joint_state(message, time.monotonic_ns(), clock)

    def _on_instruction(self, message: String) -> None:
        self._set_instruction(message.data)

    def _on_latched_instruction(self, message: String) -> None:
        # An instruction from before an emergency stop starts nothing after it, although a latching
        # publisher sends it again to new subscribers. A new one comes live as well.
        if not self._estop.tripped:
            self._set_instruction(message.data)

    def _refuse_instruction(self, problem: str) -> None:
        self.get_logger().error(f"refused: instruction: {problem}", throttle_duration_sec=1.0)

    def _on_robot(self, message: String) -> None:
        session = self._session
        if session is None or message.data == session.urdf:
            return
        problem = session.offer_robot(message.data, self._control is not None)
        if problem:
            self._refuse_robot(problem)
        else:
            self._say_guards(session)

    def _refuse_robot(self, problem: str) -> None:
        if self._session is not None:
            # The arm is held until a usable description has come.
            self._session.refuse_robot(problem)
            said = f"topic robot_description: {problem}"
            self.get_logger().error(said, throttle_duration_sec=1.0)

    def _say_guards(self, session: Session) -> None:
        """Logs which parts of the arm the limits do not cover."""
        for gap in unguarded(session.parameters, session.kinematics):
            self.get_logger().warning(gap)
        pairs = touching(session.parameters, session.kinematics)
        if pairs:
            self.get_logger().info(f"links that may touch each other: {', '.join(pairs)}")

    def _report(self, message: StepTelemetry) -> None:
        self._telemetry.publish(message)
        if self._session is not None:
            self._execute.report(message, self._session.plain_ms)
        if self._views is not None:
            self._views.note(message)
        self._status.update()

    def _arm_status(self) -> ArmStatus:
        hold, control = self._estop.problem(), self._control
        if hold is not None:
            return hold_status(hold, control.person.commander if control else "")
        if control is not None:
            return control.status
        state = "inactive" if self._session else "unconfigured"
        return ArmStatus(code=ArmStatus.INACTIVE, message=state)

    def _veto(self) -> Hold | None:
        problem = self._estop.problem() or clock_problem(self)
        if problem is None and self._session is not None:
            settings = self._session.parameters
            if not settings.dry_run:
                problem = other_commanders(self, settings.command.interface)
        return problem

    def _refusal(self) -> str:
        return self._estop.refusal() or ("" if self._control else "the node is not active")

    def _on_episode_end(self, outcome: Outcome) -> None:
        self._loop_services.tell(outcome)
        self._execute.end_episode(outcome)

    def _on_estop(self) -> None:
        control = self._control
        if self._estop.latched:
            self._execute.end(HoldReason.ESTOP)
            self._set_instruction("")
            # Configure reads the parameter again: a value from before the stop must not count.
            self.set_parameters([Parameter("instruction", value="")])
        if control is not None:
            if self._estop.latched:
                control.arm.stop_gripper()
            control.check()
        self._status.update()

    def _on_inference(self) -> None:
        if self._control is not None:
            self._control.on_inference()

    def _set_instruction(self, text: str) -> None:
        if text == self._instruction:
            return
        problem = instruction_problem(text) or (self._estop.refusal() if text else "")
        if problem:
            # The previous instruction still counts: a bad message must not be able to stop the arm.
            self.get_logger().error(f"refused: {problem}", throttle_duration_sec=1.0)
            return
        self._instruction = text
        self.get_logger().info(f"instruction: {text!r}")
        self._execute.end(PREEMPTED)
        if self._control is not None:
            self._control.set_instruction(text)

    def _clear_instruction(self, text: str) -> None:
        """Clears the instruction, unless there is another one by now."""
        if text == self._instruction:
            self._set_instruction("")

    def _check_given(self, parameters: VlaNodeParameters) -> None:
        """Checks that no parameter is misspelt or missing, which would change a limit."""
        check_names(self, VlaNodeParameters, self._given)
        check_given(parameters, self._given)

    def _may_set(self, parameters: list[Parameter]) -> SetParametersResult:
        objection = self._objection({parameter.name: parameter.value for parameter in parameters})
        return SetParametersResult(successful=not objection, reason=objection)

    def _objection(self, values: dict[str, Any]) -> str:
        """Returns why parameters may not be set to these values; empty if they may."""
        if values.get("instruction") and self._estop.latched:
            return f"instruction refused: {self._estop.refusal()}"
        if self._session is None:  # configure checks the rest as a whole
            return instruction_problem(str(values.get("instruction", "")))
        for name in values:
            if name not in LIVE and not name.startswith("qos_overrides."):
                return f"parameter '{name}' takes effect at configure; clean up first"
        live = {name: value for name, value in values.items() if name in LIVE}
        if not live:  # the settings of a topic's quality of service, many at every activation
            return ""
        before = self._session.parameters
        try:
            after = with_values(before, live)
        except ValueError as error:
            return str(error)
        kinematics = self._session.kinematics
        if after.command.of_joints and kinematics is not None:
            try:
                check_speeds(after, kinematics)
            except JointStateError as error:
                return str(error)
        if self._control is None:
            return ""
        return loosened(in_force(before), in_force(after))

    def _was_set(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            self._given.add(parameter.name)
            self._refused.pop(parameter.name, None)
        live = {each.name: each.value for each in parameters if each.name in LIVE}
        if self._session is None or not live:
            return
        settings = with_values(self._session.parameters, live)
        self._session.set_parameters(settings)
        if self._control is not None:
            self._control.set_parameters(settings)
        if self._views is not None:
            self._views.box = workspace_box(settings.workspace)
        if "instruction" in live:
            self._set_instruction(settings.instruction)


def run(node: VlaNode, executor: SingleThreadedExecutor, stopping: threading.Event) -> int:
    """Spins the node until its lifecycle ends, after the automatic start if `autostart` is set.

    Returns:
        Exit code: 1 if the automatic start failed.
    """
    if node.realtime_priority:
        problem = realtime(node.realtime_priority)
        if problem:
            node.get_logger().warning(problem)
    if node.autostart:
        for trigger in (node.trigger_configure, node.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                return 1
    node.finished = stopping.set
    return spin(node, executor, stopping)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of the executable `vla_node`."""
    leave(run_node(VlaNode, run, arguments))


if __name__ == "__main__":
    main()

"""The guard between the VLA node and the arm's controller: a process of its own, without PyTorch.

It passes commands unchanged, or stops the arm: docs/safety.md. What it decides is in `guard/`; this
file has the topics and services. It shares the robot's file with the VLA node, and nothing else.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any, NoReturn

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.errors import HeisdError
from heisd_ros.guard.gate import Gate, State
from heisd_ros.guard.trips import Trip, TripReason
from heisd_ros.kinematics.urdf import MAX_CHARACTERS
from heisd_ros.msg import ArmStatus
from heisd_ros.nodes import optional, qos
from heisd_ros.nodes.clock import steady_timer
from heisd_ros.nodes.command_publishers import command_publisher
from heisd_ros.nodes.declaration import check_names, declare, given, read
from heisd_ros.nodes.geometry_messages import pose_message, twist_message
from heisd_ros.nodes.gripper import GripperOutput
from heisd_ros.nodes.guard import GuardedNode
from heisd_ros.nodes.input_topics import InputTopics
from heisd_ros.nodes.node_limits import NodeLimits
from heisd_ros.nodes.process import StoppableNode, leave, realtime, run_node, spin
from heisd_ros.nodes.publishers import other_commanders, publishers, several
from heisd_ros.nodes.status import StatusTopic
from heisd_ros.nodes.updater import DiagnosticsUpdater, status
from heisd_ros.robot.guard_parameters import GuardNodeParameters
from heisd_ros.robot.robot_arm import make_reader, unguarded, urdf_text
from heisd_ros.robot.robot_file import check_given

JOINT_STATES_DEPTH = 8
ACKNOWLEDGE_SEC = 1.0
"""How long the end waits until the last command was received."""
RESTLESS_SEC = 1.0
"""How long a node may command motion that is not passed, before it is stopped."""
NODE_STATUS_SEC = 3.0
"""Age of the VLA node's status, which comes once a second, from which it says nothing."""


class HeisdGuard(GuardedNode, StoppableNode):
    """Passes the commands of `~/input/twist` or `~/input/pose` to `~/output/...`, or stops the arm.

    Openings of the gripper on `~/input/gripper` pass with them; the guard sends what
    `gripper.action` names in place of the node.

    Args:
        **kwargs: Passed on to rclpy's Node, for instance `context` or `parameter_overrides`.

    Raises:
        ValueError: A parameter or the robot description is not accepted.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("heisd_guard", **kwargs)
        refused = declare(self, GuardNodeParameters)
        if refused:
            raise ValueError("; ".join(refused.values()))
        self._settings = settings = read(self, GuardNodeParameters)
        check_names(self, GuardNodeParameters, given(self))
        check_given(settings, given(self))
        if not settings.dry_run:
            optional.check(settings)
        self.realtime_priority = settings.executor.realtime_priority
        self._gate = Gate(settings)
        self._urdf = ""
        self._slowest_sec = 0.0  # longest time that a command took here since the last report
        self._told: Trip | None = None
        self._restless = 0  # ticks for which commands move the arm from the first
        self._node_stopped: int | None = None  # when the VLA node said so last, steady ns
        self._inputs = InputTopics(self)
        self._listen()
        if settings.robot.source != "topic":
            try:
                self._set_robot(urdf_text(settings))
            except HeisdError as error:
                raise ValueError(str(error)) from error
        kind = TwistStamped if settings.command.interface == "twist" else PoseStamped
        self._name = settings.command.interface
        self._output = command_publisher(self, kind, f"~/output/{self._name}", settings.dry_run)
        self._sent: PoseStamped | None = None  # the newest target
        self._fingers = GripperOutput(self, settings)
        for gap in settings.gaps():
            self.get_logger().warning(gap)
        self.create_service(Trigger, "~/estop", self._on_estop)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._node_estop = self.create_client(Trigger, "~/node/estop")
        self._node_limits = NodeLimits(self)
        self._status = StatusTopic(self, self._arm_status)
        DiagnosticsUpdater(self, self._report)
        self._timer = steady_timer(self, self._gate.tick_sec, self._on_tick)
        self.add_on_set_parameters_callback(self._may_set)  # last: QoS overrides are declared here

    def stop(self) -> None:
        """Ramps the arm down if it is commanded to move, and destroys the command publisher."""
        self.destroy_timer(self._timer)
        if self._gate.state is State.PASSING:
            self._gate.stop(Trip(TripReason.SHUTDOWN, "the guard ends"), time.monotonic_ns())
        while not self._gate.at_rest:
            self._send_stop(time.monotonic_ns())
            time.sleep(self._gate.tick_sec)
        self._send_stop(time.monotonic_ns())
        self._output.close(ACKNOWLEDGE_SEC)
        self._fingers.close()

    def on_fault(self, where: str, error: Exception) -> None:
        """Trips after an exception of a callback."""
        super().on_fault(where, error)
        self._trip(Trip(TripReason.CONTROL_ERROR, f"{where}: {type(error).__name__}: {error}"))

    def _listen(self) -> None:
        """Subscribes to commands, joint states, the node's status and the robot description."""
        interface, listen = self._settings.command.interface, self._inputs.listen
        kind = TwistStamped if interface == "twist" else PoseStamped
        # The newest only: what waited behind a stalled guard is not for now.
        topic, refuse = f"~/input/{interface}", self._refuse_command
        listen(kind, topic, self._on_command, qos.reliable(), refuse=refuse)
        joints, health = qos.sensor_data(JOINT_STATES_DEPTH), self._gate.joints.joint_health
        listen(
            JointState,
            "~/input/joint_states",
            self._on_joints,
            joints,
            refuse=lambda fault: health.reject(fault, time.monotonic_ns()),
        )
        listen(
            Float64,
            "~/input/gripper",
            self._on_gripper,
            qos.reliable(),
            refuse=self._refuse_gripper,
        )
        self._gate.joints.publishers = lambda name: publishers(self, "~/input/joint_states")
        listen(ArmStatus, "~/input/status", self._on_node_status, qos.reliable(), refuse=self._log)
        if self._settings.robot.source == "topic":
            self._inputs.listen_twice(
                "robot_description",
                self._on_robot,
                self._on_robot,
                refuse=self._refuse_robot,
                most_bytes=2 * MAX_CHARACTERS,
            )

    def _on_gripper(self, message: Float64) -> None:
        problem = several(self, "~/input/gripper")
        if self._gate.grip(message.data, time.monotonic_ns(), problem):
            self._fingers.send(message.data)
        self._tell()

    def _refuse_gripper(self, problem: str) -> None:
        self._gate.grip(math.nan, time.monotonic_ns(), problem)
        self._tell()

    def _on_command(self, message: TwistStamped | PoseStamped) -> None:
        begun, rival = time.monotonic_ns(), self._rival()
        if rival is not None:
            self._gate.check(begun, self._clock_ns(), rival)
        elif self._gate.take(message, begun, self._clock_ns()):
            self._output.publish(message)
            self._timer.reset()  # ticks count from here: a stop continues the rhythm of commands
            if self._name == "pose":
                self._sent = message
        self._slowest_sec = max(self._slowest_sec, (time.monotonic_ns() - begun) / 1e9)
        self._tell()

    def _refuse_command(self, problem: str) -> None:
        self._log(f"topic ~/input/{self._name}: {problem}")
        if self._gate.state is State.PASSING:
            self._trip(Trip(TripReason.BAD_COMMAND, problem))

    def _on_joints(self, message: JointState) -> None:
        self._gate.joints.add_joint_state(message, time.monotonic_ns(), self._clock_ns())

    def _on_node_status(self, message: ArmStatus) -> None:
        stopped = message.code == ArmStatus.ESTOP
        self._node_stopped = time.monotonic_ns() if stopped else None
        if stopped and self._gate.trip is None:  # else it was the guard that stopped the node
            self._trip(Trip(TripReason.ESTOP, "the emergency stop of the VLA node is latched"))

    def _on_robot(self, message: String) -> None:
        if message.data == self._urdf:
            return
        if self._gate.state is State.PASSING:
            self._refuse_robot("it is another one while commands are passed")
            return
        try:
            self._set_robot(message.data)
        except HeisdError as error:
            self._refuse_robot(str(error))

    def _set_robot(self, urdf: str) -> None:
        reader = make_reader(self._settings, urdf)
        self._gate.set_robot(reader)
        self._urdf = urdf
        for gap in unguarded(self._settings, reader.kinematics):
            self.get_logger().warning(gap)

    def _refuse_robot(self, problem: str) -> None:
        self._gate.joints.refuse_robot(problem)
        self._log(f"topic robot_description: {problem}")

    def _log(self, problem: str) -> None:
        self.get_logger().error(problem, throttle_duration_sec=1.0)

    def _on_tick(self) -> None:
        now = time.monotonic_ns()
        try:
            self._gate.check(now, self._clock_ns(), self._rival())
        except Exception as error:
            self.on_fault("check", error)  # and the arm is stopped all the same
        self._send_stop(now)
        self._tell()
        waiting = self._gate.state is State.WAITING
        restless = waiting and self._gate.waiting.reason is TripReason.NOT_FROM_REST
        self._restless = self._restless + 1 if restless else 0
        if self._restless * self._gate.tick_sec > RESTLESS_SEC:
            self._restless = 0
            self._log(f"{self._gate.waiting}; ~/estop of the VLA node is called")
            self._stop_node()

    def _send_stop(self, now: int) -> None:
        command = self._gate.stopping(now)
        if command is None:
            return
        stamp, frame_id = self.get_clock().now().to_msg(), self._settings.command_frame
        if command.twist is not None:
            self._output.publish(twist_message(command.twist, stamp, frame_id))
        if command.target is not None:
            self._sent = pose_message(command.target, stamp, frame_id, self._sent)
            self._output.publish(self._sent)

    def _rival(self) -> Trip | None:
        """Returns the trip while a topic of commands has another publisher."""
        if words := several(self, f"~/input/{self._name}"):
            return Trip(TripReason.RIVAL_COMMANDS, words)
        return None if self._settings.dry_run else Trip.of(other_commanders(self, self._name))

    def _trip(self, trip: Trip) -> None:
        self._gate.stop(trip, time.monotonic_ns())
        self._tell()

    def _tell(self) -> None:
        """Publishes a change; a trip is logged, and the VLA node is told to stop as well.

        So that nothing moves by itself after a reset, its instruction has to be given again.
        """
        trip = self._gate.trip
        if trip is not None and trip is not self._told:
            self.get_logger().error(f"tripped: {trip}; ~/reset ends it")
            self._stop_node()
            self._fingers.cancel()
        self._told = trip
        self._status.update()

    def _on_estop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._trip(Trip(TripReason.ESTOP, "~/estop was called"))
        response.success, response.message = True, "latched"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        problem = "the emergency stop of the VLA node is latched: call its ~/reset_estop first"
        if not self._stopped_node():
            rival = str(self._rival() or several(self, "~/input/gripper"))
            problem = rival or self._gate.reset(time.monotonic_ns(), self._clock_ns())
        response.success = not problem
        response.message = problem or "reset: waits for a command from rest"
        self._tell()
        return response

    def _stop_node(self) -> None:
        if not self._stopped_node() and self._node_estop.service_is_ready():
            self._node_estop.call_async(Trigger.Request())

    def _stopped_node(self) -> bool:
        """Whether the VLA node's emergency stop is latched; a node that is gone says nothing."""
        since = self._node_stopped
        return since is not None and time.monotonic_ns() - since < NODE_STATUS_SEC * NANOSECONDS

    def _clock_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _arm_status(self) -> ArmStatus:
        gate = self._gate
        if gate.trip is not None:
            estop = gate.trip.reason is TripReason.ESTOP
            return ArmStatus(
                code=ArmStatus.ESTOP if estop else ArmStatus.HELD, message=f"{gate.trip}"
            )
        if gate.state is State.WAITING:
            return ArmStatus(code=ArmStatus.INACTIVE, message=str(gate.waiting))
        return ArmStatus(code=ArmStatus.NO_WARNING, message="")

    def _report(self) -> list[DiagnosticStatus]:
        gate, health = self._gate, self._gate.joints.joint_health
        level, message = DiagnosticStatus.OK, "commands are passed"
        if gate.trip is not None:
            level, message = DiagnosticStatus.ERROR, f"tripped: {gate.trip}"
        elif gate.state is State.WAITING:
            level, message = DiagnosticStatus.WARN, f"waiting: {gate.waiting}"
        elif self._node_limits.difference:
            level, message = DiagnosticStatus.WARN, f"limits: {self._node_limits.difference}"
        now = time.monotonic_ns()
        values: dict[str, object] = {
            "state": gate.state.value,
            "interface": self._name,
            "dry_run": self._settings.dry_run,
            "joint states, Hz": health.rate_hz(now),
            "joint states, age s": health.age_sec(now) if health.received else math.inf,
            "slowest command, ms": 1e3 * self._slowest_sec,
            **{str(key): count for key, count in gate.counts.items()},
        }
        self._slowest_sec = 0.0
        return [status("guard", level, message, values)]

    def _may_set(self, parameters: list[Parameter]) -> SetParametersResult:
        names = ", ".join(parameter.name for parameter in parameters)
        reason = f"{names}: the guard's parameters are fixed while it runs; start it again"
        return SetParametersResult(successful=False, reason=reason)


def run(node: HeisdGuard, executor: SingleThreadedExecutor, stopping: threading.Event) -> int:
    """Spins the guard until a signal comes."""
    problem = realtime(node.realtime_priority) if node.realtime_priority else ""
    if problem:
        node.get_logger().warning(problem)
    return spin(node, executor, stopping)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of the executable `heisd_guard`."""
    leave(run_node(HeisdGuard, run, arguments))


if __name__ == "__main__":
    main()

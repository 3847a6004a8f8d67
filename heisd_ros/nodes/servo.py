"""Makes MoveIt Servo ready: switches its command type and unpauses it, or starts it."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.nodes import optional
from heisd_ros.robot.parameters import VlaNodeParameters

_COMMAND_TYPES = {"twist": "TWIST", "pose": "POSE"}


class ServoSetup:
    """Prepares a Servo node for our commands; the arm is held until it has agreed.

    A Servo node that was restarted is asked again. A restart shows in a new publisher of its
    status, although DDS may still count the old one for a while.

    Args:
        node: The node that owns the clients.
        parameters: Settings: `servo.node`, `servo.setup` and the command interface.
    """

    def __init__(self, node: Node, parameters: VlaNodeParameters) -> None:
        self._node, self._servo = node, parameters.servo.node.rstrip("/")
        self._steps: list[tuple[Any, Any]] = []
        if parameters.servo.node and not parameters.dry_run:
            self._steps = self._make_steps(parameters)
        self._left = list(self._steps)
        self._answer: Future | None = None
        self._problem = ""
        self._seen: set[tuple[int, ...]] = set()

    def _make_steps(self, parameters: VlaNodeParameters) -> list[tuple[Any, Any]]:
        """Returns the clients and their requests, in order."""
        if parameters.servo.setup == "start":
            start: Any = self._node.create_client(Trigger, f"{self._servo}/start_servo")
            return [(start, Trigger.Request())]
        kind = optional.servo_command_type(parameters.servo.node)
        request = kind.Request()
        request.command_type = getattr(request, _COMMAND_TYPES[parameters.command.interface])
        switch: Any = self._node.create_client(kind, f"{self._servo}/switch_command_type")
        unpause: Any = self._node.create_client(SetBool, f"{self._servo}/pause_servo")
        return [(switch, request), (unpause, SetBool.Request(data=False))]

    def problem(self) -> Hold | None:
        """Takes the next step, if one is due, without blocking.

        Returns:
            The hold while Servo is not ready; None once it is, or if none is configured.
        """
        if self._steps and self._is_another():
            self._left, self._answer, self._problem = list(self._steps), None, ""
        if self._answer is not None and self._answer.done():
            response, self._answer = self._answer.result(), None
            if response is not None and response.success:
                self._problem = ""
                self._left.pop(0)
            else:
                self._problem = " refused, asked again"
        if not self._left:
            return None
        client, request = self._left[0]
        if self._answer is None and client.service_is_ready():
            self._answer = client.call_async(request)
        return Hold(
            HoldReason.SERVO_NOT_READY, f"waiting for service {client.srv_name}{self._problem}"
        )

    def close(self) -> None:
        """Destroys the service clients."""
        for client, _ in self._steps:
            self._node.destroy_client(client)
        self._steps, self._left = [], []

    def _is_another(self) -> bool:
        """Whether Servo is gone or was restarted."""
        ends = self._node.get_publishers_info_by_topic(f"{self._servo}/status")
        voices = {tuple(end.endpoint_gid) for end in ends}
        new = bool(voices - self._seen)
        self._seen |= voices
        return new or not self._steps[0][0].service_is_ready()

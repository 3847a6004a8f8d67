"""Services of the VLA node that reach the control loop, and are refused while there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from heisd_ros.data.marks import Outcome
from heisd_ros.nodes import qos
from heisd_ros.nodes.control_loop import ControlLoop

DEPTH = 10
"""Outcomes kept for a slow subscriber: none may be lost."""
INACTIVE = "the node is not active"


class LoopServices:
    """Serves `~/takeover`, `~/report_episode` and `~/discard_episode`; publishes `~/outcome`.

    Args:
        node: The node that owns them.
        loop: Returns the control loop; None while the node is not active.
    """

    def __init__(self, node: Node, loop: Callable[[], ControlLoop | None]) -> None:
        self._loop = loop
        node.create_service(SetBool, "~/takeover", self._on_takeover)
        node.create_service(SetBool, "~/report_episode", self._on_outcome)
        node.create_service(Trigger, "~/discard_episode", self._on_discard)
        self._outcomes = qos.publisher(node, String, "~/outcome", qos.reliable(DEPTH))

    def tell(self, outcome: Outcome) -> None:
        """Publishes how an episode ended, for recordings."""
        self._outcomes.publish(String(data=outcome.value))

    def _on_takeover(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        loop = self._loop()
        problem = loop.person.request(request.data) if loop else INACTIVE
        response.success, response.message = not problem, problem
        return response

    def _on_outcome(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        return self._end(Outcome.SUCCESS if request.data else Outcome.FAILURE, response)

    def _on_discard(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._end(Outcome.DISCARD, response)

    def _end(self, outcome: Outcome, response: Any) -> Any:
        loop = self._loop()
        problem = loop.end_episode(outcome) if loop else INACTIVE
        response.success, response.message = not problem, problem
        return response

"""Services of the VLA node that reach the control loop, and are refused while there is none."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from std_srvs.srv import SetBool

from heisd_ros.nodes.control_loop import ControlLoop


class LoopServices:
    """Serves `~/takeover` and `~/report_episode`.

    Args:
        node: The node that owns them.
        loop: Returns the control loop; None while the node is not active.
    """

    def __init__(self, node: Node, loop: Callable[[], ControlLoop | None]) -> None:
        self._loop = loop
        node.create_service(SetBool, "~/takeover", self._on_takeover)
        node.create_service(SetBool, "~/report_episode", self._on_outcome)

    def _on_takeover(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        loop = self._loop()
        problem = loop.person.request(request.data) if loop else "the node is not active"
        response.success, response.message = not problem, problem
        return response

    def _on_outcome(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        loop = self._loop()
        if loop is not None:
            loop.end_episode(request.data)
        response.success = loop is not None
        response.message = "" if loop is not None else "the node is not active"
        return response

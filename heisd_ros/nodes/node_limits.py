"""Compares the guard's limits with those of the VLA node that it guards."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python

from heisd_ros.nodes.clock import steady_timer
from heisd_ros.nodes.guard import GuardedNode
from heisd_ros.robot.declare import parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters

PERIOD_SEC = 5.0
"""Time between two questions, s."""


class NodeLimits:
    """Asks the node for its limits now and then, by `~/node/get_parameters`.

    Args:
        node: The guard, with its parameters declared.

    Attributes:
        difference: The first limit that is another one in the node; empty if none is, or if there
            is no node.
    """

    def __init__(self, node: GuardedNode) -> None:
        self.difference = ""
        infos = parameters_of(VlaNodeParameters)
        self._names = [info.name for info in infos if info.own or info.looseness is not None]
        self._node = node
        # As declared: names of the built-in arm are filled in later, in both.
        self._values = {name: node.get_parameter(name).value for name in self._names}
        if "gripper.action" not in self._values:  # its goals are sent by the guard alone
            self._names.append("gripper.action")
        self._values["gripper.action"] = ""
        self._client = node.create_client(GetParameters, "~/node/get_parameters")
        self._asked: Any = None
        steady_timer(node, PERIOD_SEC, self._ask)

    def _ask(self) -> None:
        if self._asked is not None:
            self._client.remove_pending_request(self._asked)  # a node that hangs
        self._asked = None
        if not self._client.service_is_ready():
            self.difference = ""
            return
        self._asked = self._client.call_async(GetParameters.Request(names=self._names))
        self._asked.add_done_callback(self._node.guarded("answer of the node", self._compare))

    def _compare(self, answer: Any) -> None:
        self._asked, self.difference = None, ""
        for name, value in zip(self._names, answer.result().values, strict=False):
            there, here = parameter_value_to_python(value), self._values[name]
            if there != here:
                self.difference = f"'{name}' is {there!r} in the node; accepted: {here!r}"
                return

"""The software emergency stop: latched until it is released, across all lifecycle states.

Releasing it permits motion but starts none (ISO 13850 requires this of a reset): the instruction
is cleared, and none is accepted while it is latched, so it has to be given again. It does not
replace the arm's own emergency stop, which cuts the power.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from std_srvs.srv import Trigger

from heisd_ros.control.holds import Hold, HoldReason


class EmergencyStop:
    """Serves `~/estop` and `~/reset_estop`.

    Args:
        node: The node that owns them.
        on_change: Called when the stop was latched or released.

    Attributes:
        latched: Whether the stop is in force.
        tripped: Whether it ever was: then instructions from before it no longer count.
    """

    def __init__(self, node: Node, on_change: Callable[[], None]) -> None:
        self._node, self._on_change = node, on_change
        self.latched = self.tripped = False
        node.create_service(Trigger, "~/estop", self._latch)
        node.create_service(Trigger, "~/reset_estop", self._release)

    def problem(self) -> Hold | None:
        """Returns the hold while it is latched; None otherwise."""
        if not self.latched:
            return None
        return Hold(HoldReason.ESTOP, "~/estop was called; ~/reset_estop releases it")

    def refusal(self) -> str:
        """Returns why instructions are refused now; empty if they are accepted."""
        return "the emergency stop is latched: call ~/reset_estop first" if self.latched else ""

    def _latch(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._node.get_logger().error("emergency stop latched; ~/reset_estop releases it")
        return self._set(True, response)

    def _release(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self.latched:
            self._node.get_logger().warning("emergency stop released; waits for an instruction")
        return self._set(False, response)

    def _set(self, latched: bool, response: Trigger.Response) -> Trigger.Response:
        changed, self.latched = latched != self.latched, latched
        self.tripped = self.tripped or latched
        if changed:
            self._on_change()
        response.success = True
        response.message = "latched" if latched else "released: say again what to do"
        if not changed:
            response.message = f"{'latched' if latched else 'released'} already"
        return response

"""The person's side of the control loop: devices, hand-over, steps, and the policy beside them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import Joy

from heisd_ros.control import growth
from heisd_ros.control.commands import GripperSwitch
from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.control.inference import Inference
from heisd_ros.control.inputs import NANOSECONDS, stamp_ns
from heisd_ros.control.session import Session
from heisd_ros.control.takeover import Device, Takeover
from heisd_ros.control.watch import Watch
from heisd_ros.data.marks import Outcome
from heisd_ros.decoding.types import StepResult
from heisd_ros.kinematics.joint_states import ArmState
from heisd_ros.nodes import qos
from heisd_ros.nodes.driver import ArmDriver
from heisd_ros.nodes.input_topics import InputTopics
from heisd_ros.nodes.publishers import publishers, several
from heisd_ros.robot.parameters import VlaNodeParameters

DEPTH = 8
"""Messages kept for a slow reader: no short press of a button is displaced by a later message."""
FRESH_STEPS = 2.0
"""Control steps after which what the policy saw no longer belongs to what the person does."""
RADIAN_M = 0.2
"""Metres that a radian counts for where motions are compared, as in `safety/joints.py`."""


@dataclass(frozen=True, eq=False)
class PersonStep:
    """A control step of a person's.

    Attributes:
        twist: (6,), wanted, m/s and rad/s in the command frame.
        action: (7,), the same in the model's units.
        opening: Opening of the gripper to send, m; None: none is due.
        reason: The device, and what the policy would have done.
        answered: Stamp of the first camera's newest picture, ns; 0 before the first.
    """

    twist: np.ndarray
    action: np.ndarray
    opening: float | None
    reason: str
    answered: int


class Person:
    """Turns what a person's devices ask for into wanted motion; `now` is steady time, ns.

    Args:
        node: The node that owns the subscriptions.
        session: What was configured.
        driver: Commands the arm.
        changed: Called with words when the arm changes hands.
        heard: Called after each message of a device.
        outcome: Called when a button that reports an episode's outcome was pressed.

    Attributes:
        takeover: Who has the arm.
        disagreement: Of the policy's motion from the person's: 0 the same, 1 opposite or only one
            of them at rest; NaN where there are not both.
    """

    def __init__(
        self,
        node: Node,
        session: Session,
        driver: ArmDriver,
        changed: Callable[[str], None],
        heard: Callable[[], None],
        outcome: Callable[[Outcome], None],
    ) -> None:
        self._node, self._session, self._driver = node, session, driver
        self._changed, self._heard = changed, heard
        self.disagreement = math.nan
        self._handed = True
        self._policy: tuple[int, np.ndarray | str] = 0, "nothing"
        self._result: StepResult | None = None  # what the policy would have done last
        self._inputs = InputTopics(node)  # type: ignore[arg-type]
        self.takeover = Takeover(session.parameters, self._on_change, outcome, self._rivals)
        for device, kind, take in (
            (self.takeover.joy, Joy, self.takeover.on_joy),
            (self.takeover.twist, TwistStamped, self.takeover.on_twist),
        ):
            if device.name:
                self._inputs.listen(
                    kind,
                    device.name,
                    partial(self._on_message, take),
                    qos.sensor_data(DEPTH),
                    refuse=partial(self._refuse, device),
                )

    @property
    def taken(self) -> bool:
        """Whether a person has the arm."""
        return self.takeover.taken

    @property
    def commander(self) -> str:
        """Who has the arm, as telemetry says it."""
        return "person" if self.taken else "policy"

    @property
    def timeout_sec(self) -> float:
        """Age, s, from which a device counts as released."""
        return self._session.parameters.teleop.timeout_sec

    @property
    def changing_hands(self) -> bool:
        """Whether the arm has not come to rest yet since it was taken over or given back."""
        return not self._handed

    def set_parameters(self, parameters: VlaNodeParameters) -> None:
        """Updates the live parameters."""
        self.takeover.set_parameters(parameters)

    def request(self, take: bool) -> str:
        """Takes the arm over or gives it back on demand; returns why not, or nothing."""
        if not take:
            return self.takeover.give_back("~/takeover", time.monotonic_ns())
        if not self._session.parameters.teleop.enabled:
            return "takeover is off: set 'teleop.joy_topic' or 'teleop.twist_topic' at configure"
        self.takeover.take("~/takeover")
        return ""

    def hand_over(self, watch: Watch, now: int) -> Hold | None:
        """Returns the hold while the arm comes to rest between two commanders; None afterwards.

        The call that gives the arm to the policy still holds: what that call is about was seen
        before.

        Args:
            watch: Knows what the policy acts on, and is told when it has the arm again.
            now: Steady time, ns.
        """
        if self._handed:
            return None
        if self._driver.anchored:
            self._handed = True
            if self.taken:
                return None
            # Nothing seen while the person had the arm may move it.
            self._session.buffer.discard()
            self._session.worker.restart(watch.instruction)
            watch.expect(now)
        words = f"the arm comes to rest before the {self.commander} has it"
        return Hold(HoldReason.TAKEOVER, words)

    def shadow(self, inference: Inference, would_hold: Hold | None) -> None:
        """Takes what the policy would do now; it moves nothing."""
        outcome: np.ndarray | str = str(would_hold)
        self._result = None
        if would_hold is None and isinstance(inference.outcome, StepResult):
            self._result = inference.outcome
            outcome = self._session.mapper.twist(inference.outcome.action)
        self._policy = time.monotonic_ns(), outcome

    def twist(self, now: int) -> np.ndarray:
        """Returns the motion that the person asks for, (6,), in the command frame."""
        wish = self.takeover.wish(now)
        if wish is None:
            return np.zeros(6)
        return self._driver.in_command_frame(wish.twist, wish.along_tip)

    def step(self, switch: GripperSwitch, instruction: str, now: int) -> PersonStep:
        """Returns the control step that the person takes, which online growth keeps.

        Args:
            switch: The gripper's commands, which the person's buttons change.
            instruction: What the policy is told to do.
            now: Steady time, ns.
        """
        twist, wish, opening = self.twist(now), self.takeover.wish(now), None
        names = [device.name for device in self.takeover.devices if device.pressed(now)]
        if wish is not None and wish.openness is not None:
            opening = switch.update(wish.openness, now / NANOSECONDS)
        picture, arm = self._session.buffer.newest()
        action = self._session.mapper.action(twist, self._openness(switch.position, arm))
        self._grow(action, now, instruction)
        return PersonStep(
            twist=twist,
            action=action,
            opening=opening,
            reason=f"{' '.join(names)}; {self._compare(twist, now)}",
            answered=0 if picture is None else stamp_ns(picture),
        )

    def _grow(self, action: np.ndarray, now: int, instruction: str) -> None:
        """Keeps the person's action for what the policy saw, if that is of this control step."""
        age = (now - self._policy[0]) / NANOSECONDS
        seen = self._result if age <= FRESH_STEPS / self._session.mapper.rate_hz else None
        self._result = None  # one observation is of one step
        growth.note_person(self._session.policy, instruction, action, seen)

    def _openness(self, opening: float, arm: ArmState | None) -> float:
        """Returns 0 for a closed gripper and 1 for an open one; before any command as measured."""
        gripper = self._session.parameters.gripper
        if math.isnan(opening):
            seen = None if arm is None else arm.gripper_opening
            opening = gripper.open_position if seen is None else seen
        return float(opening > 0.5 * (gripper.open_position + gripper.closed_position))

    def _compare(self, twist: np.ndarray, now: int) -> str:
        """Updates the disagreement with a step of the person, and says what the policy would do."""
        self.disagreement = math.nan
        at, policy = self._policy
        if (now - at) / NANOSECONDS > self._session.parameters.command.max_action_age_sec:
            return "the policy says nothing"
        if isinstance(policy, str):
            return f"the policy would hold: {policy}"
        weights = np.repeat([1.0, RADIAN_M], 3)
        ours, theirs = policy * weights, twist * weights
        size = float(np.linalg.norm(ours) + np.linalg.norm(theirs))
        if size > 0.0:
            self.disagreement = float(np.linalg.norm(ours - theirs)) / size
        return f"the policy disagrees by {self.disagreement:.2f}"

    def publishers(self, device: Device) -> list[str]:
        """Returns the names of the nodes that publish a device's topic."""
        return publishers(self._node, device.name)

    def close(self) -> None:
        """Destroys the subscriptions."""
        self._inputs.close()

    def _on_message(self, take: Callable[[object, int, int], None], message: object) -> None:
        take(message, time.monotonic_ns(), self._node.get_clock().now().nanoseconds)
        self._heard()

    def _refuse(self, device: Device, fault: str) -> None:
        self.takeover.refuse(device, fault, time.monotonic_ns())
        self._heard()

    def _on_change(self, how: str) -> None:
        self._handed, self.disagreement = False, math.nan
        words = "took the arm over" if self.taken else "gave the arm back to the policy"
        self._changed(f"a person {words}, by {how}")

    def _rivals(self) -> str:
        """Returns the problem of a topic with several publishers; empty if there is none."""
        for device in self.takeover.devices:
            if problem := several(self._node, device.name, "one teleoperator"):
                return problem
        return ""

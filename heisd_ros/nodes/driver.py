"""Commands the arm tick by tick, through the safety filter and the command interface.

The control loop decides whether the arm moves or is held; the driver sends one command a tick,
within the limits. Everything runs in the executor's thread.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node

from heisd_ros.control.following_check import MOVING, Following
from heisd_ros.control.holds import Hold
from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.control.motion import Command, along_tip, make_motion
from heisd_ros.control.session import Session
from heisd_ros.kinematics.joint_states import ArmState
from heisd_ros.kinematics.pose import Pose, turn
from heisd_ros.nodes.interfaces import Outgoing, make_interface
from heisd_ros.robot.parameters import VlaNodeParameters

ANCHOR_SHARE, ANCHORED, ANCHOR_SEC = 0.25, 1.2, 3.0
"""Share of the largest lead that a target may keep when the arm changes hands, so that an arm that
sags does not sink at every change; how much more ends the way back to it; and for how long, s, that
way is tried, since a wall may be in it."""


class ArmDriver:
    """Sends commands within the limits. It starts from rest, held.

    Attributes:
        tick_sec: Time from one command to the next, s.
        twist: (6,), the newest command, along the axes of `command.frame_id`, m/s and rad/s.
        joints: (n,), the same of the joints, rad/s; empty where the tip is commanded.
        notes: What limits cut from it, in words, by kind of limit.
    """

    def __init__(self, node: Node, session: Session) -> None:
        settings, command = session.parameters, session.parameters.command
        step_sec = 1.0 / session.mapper.rate_hz
        self.tick_sec = 1.0 / command.rate_hz if command.rate_hz > 0.0 else step_sec
        self.twist, self.joints = np.zeros(6), np.zeros(0)
        self.notes: dict[str, str] = {}
        self._buffer = session.buffer
        # In lock-step, time advances only with executed commands: a halt takes none.
        self._ramped = command.stamp == "now"
        self._sent: int | None = None  # when the newest command was sent, ns
        self._along_tip = along_tip(settings)
        self._interface = make_interface(node, settings, self.tick_sec, step_sec)
        self._following = Following(settings, step_sec)
        space = session.policy.action_space
        self._filter = make_motion(
            settings, space, self.tick_sec, step_sec, self._following, self._interface
        )
        self._wanted: np.ndarray | None = None
        self._action: np.ndarray | None = None
        self._tip: Pose | None = None  # last measured
        self._anchoring = self._near = False  # see `anchor`
        self._anchor: Pose | None = None
        self._anchored_at = 0  # ns
        self._dry = settings.dry_run
        self._closing = False

    @property
    def counts(self) -> Counter[str]:
        """Number of commands that a limit reduced, by the kind of limit."""
        return self._filter.counts

    @property
    def limited(self) -> str:
        """What limits cut from the newest command, in words."""
        return "; ".join(self.notes.values())

    @property
    def at_rest(self) -> bool:
        """Whether the commanded motion is zero."""
        return self._filter.at_rest

    def set_limits(self, parameters: VlaNodeParameters) -> None:
        """Updates the limits; an arm in motion continues smoothly."""
        self._filter.set_limits(parameters)
        self._following.parameters = parameters

    def problem(self) -> Hold | None:
        """Returns the hold while the arm does not follow its commands; None if it does."""
        return self._following.problem()

    def move(self, wanted: np.ndarray, action: np.ndarray | None) -> None:
        """Sets the wanted motion, from the next command on.

        Args:
            wanted: As `CommandMapper.motion` gives it.
            action: The action of a control step that it comes from; None: the same step's motion,
                changed.
        """
        self._wanted, self._anchoring = wanted, False
        if action is not None:
            self._action = action

    def hold(self) -> None:
        """Stops the arm, from the next command on."""
        self._wanted = self._action = None
        self._anchoring = False

    def anchor(self) -> None:
        """Stops the arm, then leads a target pose back to where the arm came to rest.

        That place is measured once: led to the measured pose all the time, a target would sink
        together with an arm that sags below it.
        """
        if not self._anchoring:
            self.hold()
            self._anchoring, self._near, self._anchor = True, False, None

    @property
    def anchored(self) -> bool:
        """Whether the arm stands, with its target near, since `anchor` was called."""
        return self._anchoring and self._near and self._filter.at_rest

    def in_command_frame(self, twist: np.ndarray, along_tip: bool) -> np.ndarray:
        """Returns a twist along the axes of `command.frame_id`; zero if the pose is not known.

        Args:
            twist: (6,), m/s and rad/s.
            along_tip: Whether it is along the axes of the tip, not of the base.
        """
        arm = self._buffer.arm(time.monotonic_ns())
        if along_tip == self._along_tip:
            return twist
        if arm is None:
            return np.zeros(6)
        rotation = arm.tip().rotation
        return turn(rotation if along_tip else rotation.T, twist)

    def begin_close(self) -> None:
        """Stops the arm, and ignores measured joint states from now on.

        Closing blocks the executor, so the newest joint states are still those of the moving arm:
        a target pose reset to them would jump.
        """
        self.hold()
        self._closing = True

    def send(self, stamp: Time) -> None:
        """Sends the command of this tick."""
        now = time.monotonic_ns()
        arm = None if self._closing else self._buffer.arm(now)
        elapsed_sec = self._elapsed(stamp)
        in_scene = None if self._ramped else elapsed_sec
        self._following.seen(arm, now, self._buffer.arm_age_sec(now), in_scene)
        measured = arm.tip() if arm else None
        if self._wanted is not None:
            command = self._filter.step(self._wanted, arm, elapsed_sec)
        else:
            command = self._stopping(arm, elapsed_sec)
        unsent = self._interface.send(
            Outgoing(
                twist=command.twist,
                measured=measured,
                action=self._action,
                held=self._wanted is None,
                at_rest=self._filter.at_rest,
                stamp=stamp,
                motion=command.motion,
                elapsed_sec=elapsed_sec,
                joints=command.joints,
                target=command.target,
            )
        )
        self._following.sent(command.twist, now, command.joints)
        self._action = None
        self._tip = measured or self._tip
        self.twist = self._from_base(command.twist)
        self.joints = np.zeros(0) if command.joints is None else command.joints
        self.notes = {**command.notes, "unsent": unsent} if unsent else command.notes
        # A dry run commands nothing: an arm that stands still is not frozen.
        self._buffer.moving = not self._dry and bool((np.abs(command.twist) > MOVING).any())

    def close(self, stamp: Time, timeout_sec: float) -> bool:
        """Sends a last stop, waits until it was received, and destroys the publisher.

        Returns:
            Whether every subscriber acknowledged it in time.
        """
        self.begin_close()
        self._filter.rest()
        self.send(stamp)
        return self._interface.close(timeout_sec)

    def abandon(self) -> None:
        """Destroys the publisher of a driver that has commanded nothing yet."""
        self._interface.close(0.0)

    def _elapsed(self, stamp: Time) -> float | None:
        """Returns the seconds since the previous command; None if there was none.

        In lock-step this is scene time, taken from the stamps of its observations.
        """
        now = time.monotonic_ns() if self._ramped else stamp.sec * NANOSECONDS + stamp.nanosec
        before, self._sent = self._sent, now
        return None if before is None else (now - before) / NANOSECONDS

    def _stopping(self, arm: ArmState | None, elapsed_sec: float | None) -> Command:
        """Returns the next command of an arm that is to stand still."""
        if self._anchoring and (command := self._anchored(arm, elapsed_sec)) is not None:
            return command
        if not self._ramped:
            self._filter.rest()
        return self._filter.halt(arm, elapsed_sec)

    def _anchored(self, arm: ArmState | None, elapsed_sec: float | None) -> Command | None:
        """Returns the command that leads the target back; None while there is none to send."""
        if arm is None or self._near:
            return None
        if self._anchor is None:
            if not self._filter.at_rest:
                return None
            self._anchor, self._anchored_at = arm.tip(), time.monotonic_ns()
        lead = self._interface.lead(self._anchor)
        if lead is not None:
            linear, angular = (most * ANCHOR_SHARE for most in lead.most)
            lead = replace(lead, most=(linear, angular))
            ahead = np.linalg.norm(lead.offset[:3]), np.linalg.norm(lead.offset[3:])
            far = ahead[0] > linear * ANCHORED or ahead[1] > angular * ANCHORED
            tried_sec = (time.monotonic_ns() - self._anchored_at) / NANOSECONDS
            if far and tried_sec < ANCHOR_SEC:
                return self._filter.lead_back(lead, arm, elapsed_sec)
        self._near = True
        return None

    def _from_base(self, twist: np.ndarray) -> np.ndarray:
        if not self._along_tip or self._tip is None:
            return twist
        return turn(self._tip.rotation.T, twist)

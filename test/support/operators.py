"""A cell whose arm a policy moves while a person's devices talk to the node."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import Joy
from std_srvs.srv import SetBool
from support.cell import LIMITS, ZERO, Cell
from support.mischief import Mischief
from support.stalls import Stalls

from heisd_ros.nodes.tools.bench_policy import load_free
from heisd_ros.nodes.vla_node import VlaNode

SUCCESS = TransitionCallbackReturn.SUCCESS
DEADMAN, RETURN, OPEN, CLOSE, DONE, FAILED, DISCARD = 4, 7, 1, 0, 3, 2, 6
SETTINGS = {
    **LIMITS,
    "instruction": "go",
    "command.max_action_age_sec": 10.0,
    "input.image_timeout_sec": 10.0,
    "input.joint_state_timeout_sec": 10.0,
    "input.recovery_sec": 0.05,
    "teleop.timeout_sec": 2.0,  # silence of a busy machine is no release
    "teleop.joy_topic": "joy",
    "teleop.twist_topic": "~/input/teleop",
    "teleop.success_button": DONE,
    "teleop.failure_button": FAILED,
    "teleop.discard_button": DISCARD,
}
FORTH = [0.0, 0.1, 0.0, 0.0, 0.0, 0.0, -1.0]
"""What the policy does: 0.1 m/s along y, there and back within the workspace."""


class Operated:
    """A cell, an active node whose policy moves the arm along y, a joystick and a twist source.

    Attributes:
        axes: What the joystick's axes say.
        held: Buttons that are held.
        joystick: Makes the joystick's message of a stamp; None: it is silent.
    """

    def __init__(self, world, parameters=None, activate=True):
        self._world, self._stalls = world, Stalls()
        self.cell = world.add(Cell, views=("image",))
        self.axes, self.held = [0.0] * 8, set()
        self.joystick = self.joy
        self._joy = self.cell.create_publisher(Joy, "/joy", 10)
        self.twists = self.cell.create_publisher(TwistStamped, "/vla_node/input/teleop", 10)
        self.node = world.add(VlaNode, self._load, parameters={**SETTINGS, **(parameters or {})})
        assert self.node.trigger_configure() == SUCCESS
        if activate:
            self.activate()

    def activate(self):
        assert self.node.trigger_activate() == SUCCESS
        self.until(lambda: self.source() == "autoregressive", "the policy")

    def _load(self, settings):
        policy = load_free(settings)
        self.decoder = Mischief(policy.decoder)
        self.decoder.after = self.acts
        return replace(policy, decoder=self.decoder)

    def acts(self, result):
        """What the policy does: along y, away from the nearer wall when one is near."""
        result.action[:] = FORTH
        if self.cell.tips and self.cell.tips[-1][1] > 0.0:
            result.action[1] *= -1.0

    def joy(self, stamp):
        message = Joy(axes=self.axes, buttons=[int(i in self.held) for i in range(12)])
        message.header.stamp = stamp
        return message

    def twist(self, linear=(0.0, 0.0, 0.0), frame="panda_link0"):
        message = TwistStamped()
        message.header.frame_id, message.header.stamp = frame, self.now()
        message.twist.linear.x, message.twist.linear.y, message.twist.linear.z = linear
        return message

    def now(self):
        return self.cell.get_clock().now().to_msg()

    def publish(self):
        self.cell.publish()
        self.say()

    def say(self):
        """Publishes what the joystick says, if it is plugged in."""
        self._stalls.note()
        message = self.joystick(self.now()) if self.joystick else None
        if message is not None:
            self._joy.publish(message)

    def until(self, condition, what, doing=None):
        self._world.spin_until(condition, what, doing or self.publish)

    def wait(self, seconds, doing=None):
        self._world.spin_for(seconds, doing or self.publish)

    def ask(self, take):
        return self._world.call(SetBool, "/vla_node/takeover", SetBool.Request(data=take))

    def source(self):
        """Newest source in telemetry."""
        return self.cell.telemetry[-1].source if self.cell.telemetry else ""

    def reason(self):
        return self.cell.telemetry[-1].reason if self.cell.telemetry else ""

    def ready(self):
        """Waits until the joystick was heard released."""
        self.until(lambda: self.node._control.person.takeover.joy.ready, "the joystick")

    def press(self, axis=1, share=1.0):
        """Takes the arm over and moves it along an axis."""
        self.axes[axis], self.held = share, {*self.held, DEADMAN}

        def commands():
            if "has to be released first" in self.reason():  # a stall of the machine was silence
                self.held = self.held - {DEADMAN}
                self.ready()
                self.held = {*self.held, DEADMAN}
            return self.source() == "person" and self.moves()

        self.until(commands, "the person")

    def release(self):
        """Lets the deadman go; returns the steady time at which that was said."""
        self.held = self.held - {DEADMAN}
        self.publish()
        return time.monotonic()

    def moves(self):
        return bool(self.cell.heard) and self.cell.heard[-1].twist != ZERO

    def zeros(self, since):
        """Steady times at which commands to stand were sent after a moment."""
        return [h.sent for h in self.cell.heard if h.sent >= since and h.twist == ZERO]

    def stood(self, at):
        """Whether the newest command before a moment was to stand."""
        before = [h.twist for h in self.cell.heard if h.sent < at]
        return bool(before) and before[-1] == ZERO

    def late(self, since):
        """Seconds from a moment to the first command to stand, without waiting for a CPU."""
        return self._stalls.without(since, self.zeros(since)[0])

    def stands(self, reason, since):
        """The arm stands with a reason, which telemetry and diagnostics name; returns how late."""
        cell = self.cell
        self.until(lambda: self.reason().startswith(reason), reason)
        self.until(lambda: cell.standstill(since) is not None, "a stop")
        self.until(lambda: cell.named(reason), "the diagnostic")
        self.wait(0.1)
        assert not self.moves()
        return self._stalls.without(since, cell.standstill(since).sent)

    def policy_moves(self):
        done = len(self.cell.steps())
        new = lambda: self.cell.steps()[done:]  # noqa: E731
        self.until(lambda: any(m.commander == "policy" for m in new()) and self.moves(), "policy")


def largest(heard):
    """Greatest linear speed among commands."""
    return max((float(np.linalg.norm(each.twist[:3])) for each in heard), default=0.0)

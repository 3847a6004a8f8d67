"""A cell with an arm that moves: joints follow the commands, and stand when none comes.

The arm is what a test of faults needs of one: it takes a twist for no longer than its own timeout,
as MoveIt Servo does, and everything that it hears is kept with the time at which it was heard.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from support.fake_scene import REST
from support.ros import Bench, joint_state, numbers

from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_BASE, PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.nodes.inputs import NANOSECONDS, stamp_ns

ARM_TIMEOUT_SEC = 0.1
ZERO = [0.0] * 6
_DAMPING = 0.02

LIMITS = {
    "command.rate_hz": 50.0,
    "watchdog_hz": 50.0,
    "command.max_linear_speed": 0.1,
    "command.max_angular_speed": 0.5,
    "command.max_linear_acceleration": 4.0,
    "command.max_angular_acceleration": 20.0,
    "command.max_linear_jerk": 200.0,
    "command.max_angular_jerk": 1000.0,
    "workspace.x_min": 0.38,
    "workspace.x_max": 0.53,
    "workspace.y_min": -0.08,
    "workspace.y_max": 0.08,
    "workspace.z_min": 0.18,
    "workspace.z_max": 0.33,
}
"""Limits as of a real arm, about where the simulated one begins; it halts within 60 ms."""


class Heard(NamedTuple):
    """A twist: steady times (s) at which it was received and sent, and its six numbers."""

    received: float
    sent: float
    twist: list[float]


class Cell(Bench):
    """A bench whose arm does what it is told.

    Attributes:
        heard: Every twist.
        tips: Where the tip was, (3,), m.
        reports: Diagnostics.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.kinematics = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS, PANDA_BASE)
        self.heard, self.tips, self.reports = [], [], []
        self.joints_of = lambda stamp: joint_state(self._q, self._dq, stamp=stamp)
        self._q, self._dq = REST.copy(), np.zeros(7)
        self._at = time.monotonic()
        self._offset = time.time() - self._at  # of the clock that stamps commands
        self.create_subscription(TwistStamped, "/vla_node/output/twist", self._hear, 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self.reports.append, 10)

    def publish(self):
        """Publishes one observation, of where the arm is by now."""
        self.advance()
        super().publish()

    def advance(self):
        """Moves the arm with the newest twist, unless that is too old."""
        now = time.monotonic()
        last = self.heard[-1] if self.heard else Heard(now, now, ZERO)
        until = min(now, last.received + ARM_TIMEOUT_SEC)
        jacobian = self.kinematics.jacobian(self._q)
        square = jacobian @ jacobian.T + _DAMPING**2 * np.eye(6)
        velocities = jacobian.T @ np.linalg.solve(square, last.twist)
        self._q = self._q + velocities * max(until - self._at, 0.0)
        self._dq = velocities if until == now else np.zeros(7)
        self._at = now
        self.tips.append(self.kinematics.forward(self._q).position)

    def moves(self):
        """Whether the arm moves now."""
        self.advance()
        return bool(self._dq.any())

    def standstill(self, since):
        """The first zero twist sent after a moment after which none moved; None: not yet."""
        after = [heard for heard in self.heard if heard.sent >= since]
        moving = [index for index, heard in enumerate(after) if heard.twist != ZERO]
        rest = after[moving[-1] + 1 :] if moving else after
        return rest[0] if rest else None

    def named(self, reason):
        """Whether diagnostics named a fault."""
        return any(reason in status.message for report in self.reports for status in report.status)

    def _hear(self, twist):
        self.advance()
        sent = stamp_ns(twist) / NANOSECONDS - self._offset
        self.heard.append(Heard(time.monotonic(), sent, numbers(twist)))

"""A cell with an arm that moves: joints follow the commands, and stand when none comes.

The arm is what a test of faults needs of one: it takes a twist for no longer than its own timeout,
as MoveIt Servo does, or goes to a target pose, and everything that it hears is kept with the time
at which it was heard. Actions of the model are heard, and move nothing.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from heisd_ros.msg import ActionDelta
from scipy.spatial.transform import Rotation
from support.fake_scene import REST
from support.recorder import numbers
from support.ros import Bench, joint_state

from heisd_ros.control.inputs import NANOSECONDS, stamp_ns
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_BASE, PANDA_JOINTS, PANDA_TIP, panda_urdf

ARM_TIMEOUT_SEC = 0.1
ZERO = [0.0] * 6
STILL = 1e-6
"""Motion (m, rad, or per second) that is none."""
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
    """A command: steady times (s) at which it was received and sent, and the motion it asks for.

    Six numbers: a twist; what a target pose differs by from the one before; an action's deltas.
    """

    received: float
    sent: float
    twist: list[float]


class Cell(Bench):
    """A bench whose arm does what it is told.

    Attributes:
        heard: Every command.
        tips: Where the tip was, (3,), m.
        reports: Diagnostics.
        slowest_sec: Longest time between two observations.
    """

    stands = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.kinematics = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS, PANDA_BASE)
        self.heard, self.tips, self.reports = [], [], []
        self._twist = ZERO
        self.slowest_sec, self._published = 0.0, None
        self.joints_of = lambda stamp: joint_state(self._q, self._dq, stamp=stamp)
        self._q, self._dq = REST.copy(), np.zeros(7)
        self._at = time.monotonic()
        self._offset = time.time() - self._at  # of the clock that stamps commands
        self._target = None
        for kind, name, hear in (
            (TwistStamped, "twist", self._hear_twist),
            (PoseStamped, "pose", self._hear_pose),
            (ActionDelta, "delta", self._hear_delta),
        ):
            self.create_subscription(kind, f"/vla_node/output/{name}", hear, 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self.reports.append, 10)

    def publish(self):
        """Publishes one observation, of where the arm is by now."""
        now = time.monotonic()
        self.slowest_sec = max(self.slowest_sec, now - (self._published or now))
        self._published = now
        self.advance()
        super().publish()

    def advance(self):
        """Moves the arm by the newest command, unless that is a twist that is too old."""
        now = time.monotonic()
        last = self.heard[-1] if self.heard else Heard(now, now, ZERO)
        until = now if self._target else min(now, last.received + ARM_TIMEOUT_SEC)
        span = max(until - self._at, 0.0)
        jacobian = self.kinematics.jacobian(self._q)
        square = jacobian @ jacobian.T + _DAMPING**2 * np.eye(6)
        twist = self._to_target(max(span, 0.02)) if self._target else np.array(self._twist)
        velocities = jacobian.T @ np.linalg.solve(square, twist)
        self._q = self._q + velocities * span
        self._dq = velocities if until == now else np.zeros(7)
        self._at = now
        self.tips.append(self.kinematics.forward(self._q).position)

    def _to_target(self, seconds):
        """The twist that reaches the target in some seconds, no faster than the limits."""
        place, turn = self._target
        tip = self.kinematics.forward(self._q)
        turned = (turn * Rotation.from_matrix(tip.rotation).inv()).as_rotvec()
        parts = []
        for name, part in (("linear", place - tip.position), ("angular", turned)):
            most = LIMITS[f"command.max_{name}_speed"] * seconds
            parts.append(part * min(1.0, most / (np.linalg.norm(part) or 1.0)) / seconds)
        return np.concatenate(parts)

    def moves(self):
        """Whether the arm moves now."""
        self.advance()
        return bool((np.abs(self._dq) > STILL).any())

    def standstill(self, since):
        """The first zero twist sent after a moment after which none moved; None: not yet."""
        after = [heard for heard in self.heard if heard.sent >= since]
        moving = [index for index, heard in enumerate(after) if heard.twist != ZERO]
        rest = after[moving[-1] + 1 :] if moving else after
        return rest[0] if rest else None

    def named(self, reason):
        """Whether diagnostics named a fault."""
        return any(reason in status.message for report in self.reports for status in report.status)

    def value(self, key):
        """Newest value of a key in diagnostics; None where there is none."""
        newest_first = (s for report in reversed(self.reports) for s in reversed(report.status))
        pairs = (pair for s in newest_first for pair in reversed(s.values))
        return next((pair.value for pair in pairs if pair.key == key), None)

    def _hear_twist(self, message):
        self._hear(message, numbers(message))
        self._twist = self.heard[-1].twist

    def _hear_pose(self, message):
        p, q = message.pose.position, message.pose.orientation
        place, turn = np.array([p.x, p.y, p.z]), Rotation.from_quat([q.x, q.y, q.z, q.w])
        before = self._target or (place, turn)
        change = [*(place - before[0]), *(turn * before[1].inv()).as_rotvec()]
        self._hear(message, ZERO if np.abs(change).max() < STILL else list(change))
        self._target = place, turn

    def _hear_delta(self, message):
        self._hear(message, ZERO if message.stop else list(message.action[:6]))

    def _hear(self, message, motion):
        self.advance()
        sent = stamp_ns(message) / NANOSECONDS - self._offset
        self.heard.append(Heard(time.monotonic(), sent, motion))

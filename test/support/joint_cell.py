"""A cell whose arm takes velocities or positions of its joints, as ros2_control's controllers do.

A velocity counts until another comes: those controllers have no timeout. A position is gone to with
a delay of first order. Everything that is heard is kept with the time at which it was heard.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Float64MultiArray
from support.fake_scene import REST
from support.ros import Bench, joint_state
from trajectory_msgs.msg import JointTrajectory

_DELAY_SEC = 0.03
TICK_SEC = 0.02
"""Time from one command to the next, s."""


class HeardJoints(NamedTuple):
    """A command: steady time (s) at which it was received, and its seven numbers."""

    received: float
    numbers: np.ndarray


class JointCell(Bench):
    """A bench whose arm does what its joints are told.

    Attributes:
        heard: Every command.
        trajectories: The messages, where they are trajectories.
        places: Joint positions over time.
        overdue: (7,), ways that the joints made, rad, while the next command was more than half a
            tick late: no command can prevent them.
        reports: Diagnostics.
    """

    stands = False

    def __init__(self, interface, message="array", start=REST, **kwargs):
        super().__init__(**kwargs)
        self.q, self._dq = np.array(start, float), np.zeros(7)
        self._at, self._target = time.monotonic(), None
        self._moves_to = interface == "joint_position"
        self.heard, self.trajectories, self.places, self.reports = [], [], [self.q], []
        self.overdue = np.zeros(7)
        self.joints_of = lambda stamp: joint_state(self.q, self._dq, stamp=stamp)
        topic = f"/vla_node/output/{interface}"
        if message == "array":
            self.create_subscription(Float64MultiArray, topic, self._on_array, 100)
        else:
            self.create_subscription(JointTrajectory, topic, self._on_trajectory, 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self.reports.append, 10)

    def publish(self):
        """Publishes one observation, of where the arm is by now."""
        self.advance()
        super().publish()

    def advance(self):
        """Moves the arm by the newest command."""
        now = time.monotonic()
        span, self._at = now - self._at, now
        if self._target is not None:
            way = (self._target - self.q) * (1.0 - np.exp(-span / _DELAY_SEC))
            self._dq = way / max(span, 1e-6)
            self.q = self.q + way
        else:
            self.q = self.q + self._dq * span
            due = self.heard[-1].received + 1.5 * TICK_SEC if self.heard else now
            self.overdue = self.overdue + np.abs(self._dq) * np.clip(now - due, 0.0, span)
        self.places.append(self.q)

    def still(self):
        """Whether nothing moves it: a zero velocity, or a target that stands."""
        if not self._moves_to:
            return bool(self.heard) and not self.heard[-1].numbers.any()
        last = [each.numbers for each in self.heard[-4:]]
        return len(last) == 4 and all(np.array_equal(each, last[0]) for each in last)

    def named(self, reason):
        """Whether diagnostics named a fault."""
        return any(reason in status.message for report in self.reports for status in report.status)

    def _on_array(self, message):
        self._hear(np.array(message.data))

    def _on_trajectory(self, message):
        self.trajectories.append(message)
        point = message.points[0]
        self._hear(np.array(point.positions if self._moves_to else point.velocities))

    def _hear(self, numbers):
        self.advance()
        self.heard.append(HeardJoints(time.monotonic(), numbers))
        if self._moves_to:
            self._target = numbers
        else:
            self._dq = numbers

"""A cell whose arm an active node moves while a test breaks something, and the record of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from rclpy.lifecycle import TransitionCallbackReturn
from support.cell import ARM_TIMEOUT_SEC, LIMITS, ZERO, Cell
from support.mischief import Mischief
from support.stalls import MOST_STALLS_SEC, Stalls
from support.tiny_vla import INSTRUCTIONS

from heisd_ros.control.policy import load_policy
from heisd_ros.nodes.vla_node import VlaNode

SUCCESS = TransitionCallbackReturn.SUCCESS
PATIENCE_SEC = 10.0
"""Limit of every watchdog that a test is not about."""
STOP_WITHIN_SEC = 0.15
SETTINGS = {
    **LIMITS,
    "model.threads": 1,
    "instruction": INSTRUCTIONS[0],
    "input.image_timeout_sec": PATIENCE_SEC,
    "input.joint_state_timeout_sec": PATIENCE_SEC,
    "input.max_stamp_age_sec": 2.0,
    "command.max_action_age_sec": PATIENCE_SEC,
}


class Drive:
    """A cell whose arm an active node moves, and the decoder that moves it."""

    def __init__(self, world, checkpoint, record, parameters):
        self._world, self._record, self._stalls = world, record, Stalls()
        self.blind_sec = 0.0  # for how long the arm may have moved while it was not known where
        self.cell = world.add(Cell)
        settings = {"model.path": str(checkpoint), **SETTINGS, **parameters}
        self.node = world.add(VlaNode, self._load, parameters=settings)
        assert self.node.trigger_configure() == self.node.trigger_activate() == SUCCESS
        self.until(lambda: len(self.cell.steps()) >= 5 and self.wants_motion(), "motion")

    def _load(self, settings):
        policy = load_policy(settings)
        self.decoder = Mischief(policy.decoder)
        return replace(policy, decoder=self.decoder)

    def publish(self):
        self._stalls.note()
        self.cell.publish()

    def until(self, condition, what):
        self._world.spin_until(condition, what, self.publish)

    def wait(self, seconds):
        self._world.spin_for(seconds, self.publish)

    def wants_motion(self):
        return bool(self.cell.heard) and self.cell.heard[-1].twist != ZERO

    def stands(self, reason, since, over):
        """The arm stands in time; telemetry and diagnostics name the fault.

        Args:
            reason: The hold.
            since: Steady time at which the fault began.
            over: Says at which steady time the watchdog's limit was over.
        """
        cell = self.cell
        self.until(lambda: cell.telemetry[-1].reason.startswith(reason), reason)
        self.until(lambda: cell.standstill(since) is not None, "a stop")
        self.in_time(cell.standstill(since).received, since, over())
        self.until(lambda: cell.named(reason), "the diagnostic")
        self.until(lambda: not cell.moves(), "a stand")
        assert cell.heard[-1].twist == ZERO

    def in_time(self, stood, since, over):
        """The arm stood in time, not counting the time in which nothing of us could run."""
        self._stalls.note()
        self.blind_sec = stood - since
        stalled = self._stalls.within(since, stood)
        self._record("stop_sec", round(stood - over, 3))
        self._record("stalled_sec", round(stalled, 3))
        late = stood - over - min(stalled, MOST_STALLS_SEC)
        assert late <= STOP_WITHIN_SEC, f"stood {stood - over:.3f} s after, {stalled:.3f} s stalled"

    def goes_on(self):
        """The arm is moved again."""
        done = len(self.cell.steps())
        self.until(lambda: len(self.cell.steps()) > done + 2 and self.wants_motion(), "recovery")


def drives(world, checkpoint, record):
    """Yields a function that starts a cell whose arm is moved, with further parameters of the node.

    At the end the tip must have stayed in the workspace.
    """
    drives = []

    def begin(parameters=None):
        drives.append(Drive(world, checkpoint, record, parameters or {}))
        return drives[0]

    yield begin
    tips = np.array(drives[0].cell.tips)
    # What it moves while nobody knows where it is, a few messages in every case.
    blind_sec = drives[0].blind_sec + ARM_TIMEOUT_SEC + 3.0 * drives[0].cell.slowest_sec
    outside = LIMITS["command.max_linear_speed"] * blind_sec
    for i, axis in enumerate("xyz"):
        assert tips[:, i].min() >= LIMITS[f"workspace.{axis}_min"] - outside, axis
        assert tips[:, i].max() <= LIMITS[f"workspace.{axis}_max"] + outside, axis

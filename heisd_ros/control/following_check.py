"""Holds the arm while measured motion does not follow commanded motion. Imports no ROS."""

from __future__ import annotations

from collections import deque

import numpy as np

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.kinematics.joint_states import ArmState
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.safety.dead_reckoning import ReckonedTip, StillJoints, foremost
from heisd_ros.safety.joints import Posture

MOVING = np.array([0.005] * 3 + [0.02] * 3)
"""Motion faster than this (m/s, rad/s) on any axis must be visible in pictures and joint states."""


class Following:
    """Compares commanded with measured motion, from activation on.

    A dry run commands no motion. Dead reckoning is done for twists and joint velocities only: a
    target already is the commanded position, and the units of the model's own actions are not known
    here.

    Args:
        parameters: Limits; may be replaced at any time.
        step_sec: Time of one command in lock-step, s.
    """

    def __init__(self, parameters: VlaNodeParameters, step_sec: float) -> None:
        self.parameters = parameters
        self._step_sec = step_sec
        self._tip = ReckonedTip()
        self._joints: StillJoints | None = None
        self._posture: Posture | None = None
        self._twist, self._since = np.zeros(6), 0
        self._turns = np.zeros(0)  # rad/s, commanded of the joints themselves
        self._ways: deque[tuple[int, np.ndarray]] = deque(maxlen=1000)
        # Commanded since the stamp of the newest joint states: of the tip, m, then of the joints.
        self._unmeasured = np.zeros(3)

    def sent(self, twist: np.ndarray, now: int, joints: np.ndarray | None = None) -> None:
        """Records the command that is in force from now on.

        Args:
            twist: (6,), m/s and rad/s in the base frame.
            now: Steady time, ns.
            joints: (n,), rad/s, where the joints themselves are commanded; None: the twist is.
        """
        told = 0.0 if self.parameters.dry_run else 1.0
        self._twist, self._since = twist * told, now
        self._turns = np.zeros(0) if joints is None else joints * told

    def seen(
        self,
        arm: ArmState | None,
        now: int,
        age_sec: float = 0.0,
        elapsed_sec: float | None = None,
    ) -> None:
        """Records the measured arm, after the last command was in force until now.

        Args:
            arm: Newest state; None if it is not known.
            now: Steady time, ns.
            age_sec: Age of that state by its stamp, s.
            elapsed_sec: Time of the scene since the last command, s, in lock-step; None: a step.
        """
        seconds = self._seconds(now, elapsed_sec)
        self._tip.command(self._twist[:3], seconds)
        self._ways.append((now, np.concatenate([self._twist[:3], self._turns]) * seconds))
        while self._ways and now - self._ways[0][0] >= age_sec * NANOSECONDS:
            self._ways.popleft()
        ways = [way for _, way in self._ways if len(way) == 3 + len(self._turns)]
        self._unmeasured = sum(ways, np.zeros(3 + len(self._turns)))
        if arm is None:
            return
        self._tip.measure(arm.tip().position)
        before, posture = self._posture, Posture(arm.kinematics, arm.positions)
        if self._joints is None or before is None or arm.kinematics is not before.kinematics:
            self._joints = StillJoints(len(arm.positions))
        motion = np.zeros(len(arm.positions))
        if len(self._turns):
            motion = self._turns * seconds
        elif self._twist.any():
            motion = posture.inverse @ self._twist * seconds
        self._joints.update(arm.positions, motion, seconds)
        self._posture = posture

    def position(self, told: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Returns how far the tip may already be along a motion that has to stay in the box.

        Args:
            told: (3,), measured or commanded position of the tip, m.
            wanted: (6,), the motion, m/s and rad/s in the base frame.
        """
        joints, posture = self._joints, self._posture
        if (
            not self.parameters.command.of_speeds
            or joints is None
            or posture is None
            or self._tip.position is None
        ):
            return told
        # The motion of the other joints masks a joint that stands still.
        hidden = posture.jacobian[:3] @ joints.told
        furthest = foremost(told, told + hidden, wanted[:3])
        furthest = foremost(furthest, told + self._unmeasured[:3], wanted[:3])
        return foremost(furthest, self._tip.position, wanted[:3])

    def joints(self, measured: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Returns how far each joint may already be along a motion that has to stay within limits.

        Args:
            measured: (n,), rad.
            wanted: (n,), the motion, rad/s.
        """
        joints, unmeasured = self._joints, self._unmeasured[3:]
        if joints is None or len(unmeasured) != len(measured):
            return measured
        furthest = foremost(measured, measured + joints.told, wanted)
        return foremost(furthest, measured + unmeasured, wanted)

    def problem(self) -> Hold | None:
        """Returns the hold while the arm does not follow; None if it does."""
        return self._frozen() or self._behind()

    def _seconds(self, now: int, elapsed_sec: float | None) -> float:
        """Returns the time for which the last command was in force, s.

        The arm drops a command after its own timeout, which is not known here. In lock-step a
        command moves it by one step, and not at all where the same observation is answered again.
        """
        if self.parameters.command.stamp == "observation":
            step = self._step_sec
            return step if elapsed_sec is None else min(max(elapsed_sec, 0.0), step)
        return min((now - self._since) / NANOSECONDS, self.parameters.command.max_action_age_sec)

    def _frozen(self) -> Hold | None:
        limit = self.parameters.input.frozen_joint_sec
        if limit == 0.0 or self._joints is None or self._posture is None:
            return None
        frozen = self._joints.due_sec >= limit
        if not frozen.any():
            return None
        names = [n for n, f in zip(self._posture.kinematics.joint_names, frozen, strict=True) if f]
        return Hold(
            HoldReason.FROZEN_JOINT_STATES,
            f"positions of {', '.join(names)} unchanged for {limit:g} s after the arm was to move",
        )

    def _behind(self) -> Hold | None:
        settings = self.parameters.input
        if settings.follow_distance_m == 0.0 or not self.parameters.command.of_speeds:
            return None
        lead = self._tip.lead
        lost = np.abs(lead) > settings.follow_distance_m
        lost &= self._tip.behind_sec >= settings.follow_sec
        if not lost.any():
            return None
        words = ", ".join(f"{lead[i]:+.3f} m along {'xyz'[i]}" for i in np.flatnonzero(lost))
        return Hold(
            HoldReason.NOT_FOLLOWING,
            f"the commands lead the measured tip by {words}, which it has not gone for "
            f"{settings.follow_sec:g} s; accepted: {settings.follow_distance_m:g} m",
        )

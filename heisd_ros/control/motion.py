"""From wanted motion to commands within the limits: of the tip, or of the joints. Imports no ROS.

A motion is asked once for each command, with the newest state of the arm.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from heisd_ros.control.following_check import Following
from heisd_ros.kinematics.joint_states import ArmState
from heisd_ros.kinematics.pose import END_EFFECTOR, Pose, turn
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.safety_limits import joint_limits, safety_limits, tip_limits
from heisd_ros.safety.joint_filter import JointFilter, JointLimits
from heisd_ros.safety.lead import JointLead, Lead
from heisd_ros.safety.limits import Limited, SafetyFilter, SafetyLimits
from heisd_ros.safety.posture import JointPosture, Posture


@dataclass(frozen=True, eq=False)
class Command:
    """A command within the limits.

    Attributes:
        twist: (6,), of the tip, m/s and rad/s in the base frame.
        notes: What was cut, by kind, in words.
        motion: (6,), displacement of the tip since the previous command, m and rad.
        joints: (n,), velocities of the joints, rad/s; None where the tip is commanded.
        target: (n,), positions of the joints, rad; None where they are not known, or not commanded.
    """

    twist: np.ndarray
    notes: dict[str, str]
    motion: np.ndarray
    joints: np.ndarray | None = None
    target: np.ndarray | None = None


class Motion(Protocol):
    """Turns wanted motion into commands. It starts from rest."""

    @property
    def counts(self) -> Counter[str]:
        """Number of commands that a limit reduced, by the kind of limit."""

    @property
    def at_rest(self) -> bool:
        """Whether the commanded motion is zero."""

    @property
    def limits(self) -> SafetyLimits | JointLimits:
        """The limits in force."""

    def set_limits(self, settings: VlaNodeParameters) -> None:
        """Updates the limits; an arm in motion continues smoothly."""

    def rest(self) -> None:
        """Stops at once, without a ramp."""

    def halt(self, arm: ArmState | None, elapsed_sec: float | None) -> Command:
        """Returns the next command of a smooth halt.

        Args:
            arm: State of the arm; None if it is not known.
            elapsed_sec: Time since the previous command, s; None: one tick.
        """

    def step(self, wanted: np.ndarray, arm: ArmState | None, elapsed_sec: float | None) -> Command:
        """Returns the next command towards a wanted motion.

        Args:
            wanted: What `CommandMapper.motion` gave.
            arm: As in `halt`.
            elapsed_sec: As in `halt`.
        """

    def lead_back(self, lead: Lead, arm: ArmState, elapsed_sec: float | None) -> Command:
        """Returns the next command that leads a target pose back while no motion is wanted.

        Args:
            lead: How far the target leads the place that it is led to, and how far it may.
            arm: State of the arm.
            elapsed_sec: As in `halt`.
        """


class Target(Protocol):
    """Where a command interface has led the tip."""

    def position(self, measured: Pose) -> np.ndarray:
        """Returns the commanded position of the tip, else the measured one, (3,), m."""

    def lead(self, measured: Pose) -> Lead | None:
        """Returns how far the target pose leads the measured one; None if there is no target."""


class TipMotion:
    """Commands a twist of the tip.

    Args:
        settings: Limits and frame.
        tick_sec: Time from one command to the next, s.
        step_sec: Time of one control step, s.
        following: Knows how far the tip may be.
        target: Where the command interface has led the tip.
    """

    def __init__(
        self,
        settings: VlaNodeParameters,
        tick_sec: float,
        step_sec: float,
        following: Following,
        target: Target,
    ) -> None:
        timeout_sec = settings.command.timeout_sec
        self._filter = SafetyFilter(safety_limits(settings), tick_sec, step_sec, timeout_sec)
        self._along_tip = along_tip(settings)
        self._following, self._target = following, target

    @property
    def counts(self) -> Counter[str]:
        """Implements `Motion.counts`."""
        return self._filter.counts

    @property
    def at_rest(self) -> bool:
        """Implements `Motion.at_rest`."""
        return self._filter.at_rest

    @property
    def limits(self) -> SafetyLimits:
        """Implements `Motion.limits`."""
        return self._filter.limits

    def set_limits(self, settings: VlaNodeParameters) -> None:
        """Implements `Motion.set_limits`."""
        self._filter.limits = safety_limits(settings)

    def rest(self) -> None:
        """Implements `Motion.rest`."""
        self._filter.rest()

    def halt(self, arm: ArmState | None, elapsed_sec: float | None) -> Command:
        """Implements `Motion.halt`; it needs no state of the arm."""
        return _of_tip(self._filter.halt(elapsed_sec))

    def step(self, wanted: np.ndarray, arm: ArmState | None, elapsed_sec: float | None) -> Command:
        """Implements `Motion.step`; the wanted motion is a twist, in the frame of commands."""
        if arm is None:
            return _of_tip(self._filter.step(wanted, None, None, elapsed_sec=elapsed_sec))
        measured = arm.tip()
        wanted = turn(measured.rotation, wanted) if self._along_tip else wanted
        posture = Posture(arm.kinematics, arm.positions)
        position = self._following.position(self._target.position(measured), wanted)
        lead = self._target.lead(measured)
        return _of_tip(self._filter.step(wanted, position, posture, lead, elapsed_sec))

    def lead_back(self, lead: Lead, arm: ArmState, elapsed_sec: float | None) -> Command:
        """Implements `Motion.lead_back`."""
        posture, position = Posture(arm.kinematics, arm.positions), self._target.position(arm.tip())
        return _of_tip(self._filter.step(np.zeros(6), position, posture, lead, elapsed_sec))


class JointMotion:
    """Commands the joints: their velocities, and their positions by integration.

    Target positions begin where the arm is first seen, and move only by the velocities of the
    filter, which takes their lead over the arm into account. In a hold they stop with them and are
    repeated.

    Args:
        settings: Limits, frame and interface.
        space: Action space of the model.
        tick_sec: Time from one command to the next, s.
        step_sec: Time of one control step, s.
        following: Knows how far the joints may be.
    """

    def __init__(
        self,
        settings: VlaNodeParameters,
        space: str,
        tick_sec: float,
        step_sec: float,
        following: Following,
    ) -> None:
        count, timeout_sec = (
            len(settings.robot.joint_names),
            settings.command.timeout_sec,
        )
        self._filter = JointFilter(joint_limits(settings), count, tick_sec, step_sec, timeout_sec)
        # Shapes the steps of the end effector first; limits of the joints are the other's.
        self._tip = SafetyFilter(tip_limits(settings), tick_sec, step_sec, timeout_sec)
        self._space, self._along_tip, self._following = space, along_tip(settings), following
        self._lead_rad = settings.command.max_lead_rad
        self._integrates = not settings.command.of_speeds
        self._still = np.zeros(count)
        self._target: np.ndarray | None = None
        self._seen: Posture | None = None

    @property
    def counts(self) -> Counter[str]:
        """Implements `Motion.counts`."""
        return self._filter.counts + self._tip.counts

    @property
    def at_rest(self) -> bool:
        """Implements `Motion.at_rest`."""
        return self._filter.at_rest

    @property
    def limits(self) -> JointLimits:
        """Implements `Motion.limits`."""
        return self._filter.limits

    def set_limits(self, settings: VlaNodeParameters) -> None:
        """Implements `Motion.set_limits`."""
        self._filter.limits, self._tip.limits = joint_limits(settings), tip_limits(settings)

    def rest(self) -> None:
        """Implements `Motion.rest`."""
        self._filter.rest()
        self._tip.rest()

    def halt(self, arm: ArmState | None, elapsed_sec: float | None) -> Command:
        """Implements `Motion.halt`; without a state of the arm no target begins."""
        self._see(arm)
        self._tip.halt(elapsed_sec)
        return self._command(self._filter.halt(elapsed_sec))

    def step(self, wanted: np.ndarray, arm: ArmState | None, elapsed_sec: float | None) -> Command:
        """Implements `Motion.step`; the wanted motion is what the action space says.

        It is a twist in the frame of commands, velocities of the joints, or positions to go to.
        """
        self._see(arm)
        if arm is None:
            self._tip.step(np.zeros(6), None, None, elapsed_sec=elapsed_sec)
            return self._command(self._filter.step(self._still, None, elapsed_sec=elapsed_sec))
        if self._target is None:
            lead, joints = None, arm.positions
        else:
            way = arm.kinematics.way(arm.positions, self._target)
            lead, joints = JointLead(way, self._lead_rad), self._target
        velocities, notes = self._velocities(wanted, arm, joints, elapsed_sec)
        if self._target is None:
            joints = self._following.joints(joints, velocities)
        posture = JointPosture(arm.kinematics, joints)
        return self._command(self._filter.step(velocities, posture, lead, elapsed_sec), notes)

    def lead_back(self, lead: Lead, arm: ArmState, elapsed_sec: float | None) -> Command:
        """Implements `Motion.lead_back`: joints have no target pose, so the arm halts."""
        return self.halt(arm, elapsed_sec)

    def _velocities(
        self, wanted: np.ndarray, arm: ArmState, joints: np.ndarray, elapsed_sec: float | None
    ) -> tuple[np.ndarray, dict[str, str]]:
        """Returns the wanted velocities of the joints, (n,), and what was cut from the motion."""
        if self._space == "joint_velocity":
            return wanted, {}
        if self._space == "joint_position":
            return self._filter.approach(arm.kinematics.way(joints, wanted)), {}
        posture = Posture(arm.kinematics, joints)
        tip = arm.kinematics.forward(joints)
        wanted = turn(tip.rotation, wanted) if self._along_tip else wanted
        limited = self._tip.step(wanted, tip.position, posture, elapsed_sec=elapsed_sec)
        return posture.inverse @ limited.twist, limited.notes

    def _see(self, arm: ArmState | None) -> None:
        if arm is not None:
            self._seen = Posture(arm.kinematics, arm.positions)
            if self._integrates and self._target is None:
                self._target = arm.positions.copy()

    def _command(self, limited: Limited, notes: dict[str, str] | None = None) -> Command:
        if self._target is not None:
            self._target = self._target + limited.motion
        jacobian = (
            np.zeros((6, len(limited.velocity))) if self._seen is None else self._seen.jacobian
        )
        return Command(
            twist=jacobian @ limited.velocity,
            notes={**(notes or {}), **limited.notes},
            motion=jacobian @ limited.motion,
            joints=limited.velocity,
            target=self._target,
        )


def make_motion(
    settings: VlaNodeParameters,
    space: str,
    tick_sec: float,
    step_sec: float,
    following: Following,
    target: Target,
) -> Motion:
    """Creates the motion that the command interface takes.

    Args:
        settings: The validated settings.
        space: Action space of the model.
        tick_sec: Time from one command to the next, s.
        step_sec: Time of one control step, s.
        following: Compares commanded and measured motion.
        target: Where the command interface has led the tip.
    """
    if settings.command.of_joints:
        return JointMotion(settings, space, tick_sec, step_sec, following)
    assert space == END_EFFECTOR, f"action space {space} for {settings.command.interface}"
    return TipMotion(settings, tick_sec, step_sec, following, target)


def along_tip(settings: VlaNodeParameters) -> bool:
    """Whether commands are along the axes of the end effector, not of the base frame."""
    return settings.command_frame != settings.robot.base_frame


def _of_tip(limited: Limited) -> Command:
    return Command(limited.twist, limited.notes, limited.motion)

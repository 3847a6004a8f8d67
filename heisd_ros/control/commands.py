"""Converts the model's action to SI units: a twist and a gripper opening. Imports no ROS.

Limits are applied in `heisd_ros.safety`, not here.
"""

from __future__ import annotations

import math

import numpy as np

from heisd_ros.data.recorded_actions import motion_action
from heisd_ros.data.recording_layout import ActionRule
from heisd_ros.kinematics.pose import END_EFFECTOR
from heisd_ros.robot.parameters import VlaNodeParameters


def rotation_vector(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Converts rotations about the fixed axes x, then y, then z to a rotation vector.

    Args:
        roll: About x, rad.
        pitch: About y, rad.
        yaw: About z, rad.

    Returns:
        (3,), axis times angle, rad.
    """
    half = np.array([roll, pitch, yaw]) / 2.0
    (cr, cp, cy), (sr, sp, sy) = np.cos(half), np.sin(half)
    # Quaternion of Rz(yaw) Ry(pitch) Rx(roll).
    w = cr * cp * cy + sr * sp * sy
    v = np.array(
        [
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        ]
    )
    if w < 0.0:
        w, v = -w, -v
    norm = float(np.linalg.norm(v))
    # For small angles axis * angle tends to 2 v; the quotient would be 0 / 0.
    return 2.0 * v if norm < 1e-12 else v / norm * (2.0 * math.atan2(norm, w))


class CommandMapper:
    """Converts actions to commands; the last number of an action is the gripper's.

    Args:
        parameters: Scales and conventions.
        rate_hz: Control steps a second: an action's deltas are those of one step.
        space: What the numbers before the gripper's are, as in `model.action_space`.
    """

    def __init__(
        self, parameters: VlaNodeParameters, rate_hz: float, space: str = END_EFFECTOR
    ) -> None:
        self._parameters, self._space = parameters, space
        self.rate_hz = rate_hz

    def motion(self, action: np.ndarray) -> np.ndarray:
        """Returns the motion that an action asks for.

        Args:
            action: Motion, then gripper, in the model's units.

        Returns:
            (6,), a twist as `twist` gives it, or (n,), velocities (rad/s) or positions (rad) of the
            joints.
        """
        if self._space == END_EFFECTOR:
            return self.twist(action)
        motion: np.ndarray = action[:-1] * self._parameters.command.joint_scale
        return motion

    def twist(self, action: np.ndarray) -> np.ndarray:
        """Returns the twist that makes the action's deltas in one control step.

        Args:
            action: (7,): translation, rotation, gripper, in the model's units.

        Returns:
            (6,), linear m/s then angular rad/s, in the command frame.
        """
        command = self._parameters.command
        linear = action[:3] * command.translation_scale
        angular = action[3:6] * command.rotation_scale
        if command.rotation_convention == "roll_pitch_yaw":
            angular = rotation_vector(*angular)
        return np.concatenate([linear, angular]) * self.rate_hz

    def action(self, twist: np.ndarray, openness: float) -> np.ndarray:
        """Returns the action that the twist of one control step is, in the model's units.

        Args:
            twist: (6,), m/s and rad/s in the command frame.
            openness: Of the gripper: 0 closed, 1 open.
        """
        command, gripper = self._parameters.command, self._parameters.gripper
        rule = ActionRule(
            translation_scale=command.translation_scale,
            rotation_scale=command.rotation_scale,
            rotation_convention=command.rotation_convention,
        )
        fingers = gripper.closed_action + openness * (gripper.open_action - gripper.closed_action)
        return np.append(motion_action(twist / self.rate_hz, rule), fingers)

    def gripper_openness(self, action: np.ndarray) -> float:
        """Returns how far the action opens the gripper: 0 closed, 1 open."""
        gripper = self._parameters.gripper
        share = (action[-1] - gripper.closed_action) / (gripper.open_action - gripper.closed_action)
        return float(np.clip(share, 0.0, 1.0))


class GripperSwitch:
    """Switches the gripper between open and closed with hysteresis.

    A command is due on change and at an interval, not at every step: in most drivers each command
    starts a motion.
    """

    def __init__(self, parameters: VlaNodeParameters) -> None:
        self._parameters = parameters
        self._open: bool | None = None
        self._sent: float | None = None

    def set_parameters(self, parameters: VlaNodeParameters) -> None:
        """Updates the live parameters."""
        self._parameters = parameters

    @property
    def position(self) -> float:
        """The commanded opening, m; NaN before the first command."""
        if self._open is None:
            return math.nan
        gripper = self._parameters.gripper
        return gripper.open_position if self._open else gripper.closed_position

    def update(self, openness: float, now_sec: float) -> float | None:
        """Takes the opening that the newest action asks for.

        Args:
            openness: 0 closed to 1 open.
            now_sec: Steady time.

        Returns:
            The opening to send, m, or None if no command is due.
        """
        before = self._open
        if before is None:
            self._open = openness >= 0.5
        elif openness != 0.5 and abs(openness - 0.5) >= self._parameters.gripper.hysteresis:
            self._open = openness > 0.5
        resend = self._parameters.gripper.resend_sec
        due = self._sent is not None and resend > 0.0 and now_sec - self._sent >= resend
        if self._open == before and not due:
            return None
        self._sent = now_sec
        return self.position

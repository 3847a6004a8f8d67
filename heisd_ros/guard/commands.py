"""Reads commands from the fields of their messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from heisd_ros.control.inputs import stamp_ns
from heisd_ros.errors import CommandError
from heisd_ros.kinematics.pose import Pose
from heisd_ros.robot.parameters import VlaNodeParameters

_MOST = 1e3
"""Greatest number of a command, m or rad or per second: arithmetic with it cannot overflow."""
_UNIT = 1e-3
"""Greatest difference of a quaternion's length from 1."""


@dataclass(frozen=True, eq=False)
class Command:
    """A command as it was received; either a twist or a target pose.

    Attributes:
        stamp: Header stamp, ns.
        twist: (6,), m/s and rad/s along the axes of `command.frame_id`, finite.
        target: Pose of the tip in the base frame.
    """

    stamp: int
    twist: np.ndarray | None = None
    target: Pose | None = None


class CommandReader:
    """Reads TwistStamped or PoseStamped, as `command.interface` says.

    Args:
        settings: Interface, frame and units.

    Attributes:
        scales: (6,), m/s and rad/s that a 1 in a twist stands for.
    """

    def __init__(self, settings: VlaNodeParameters) -> None:
        command = settings.command
        self.scales = np.ones(6)
        if command.units == "unitless":
            self.scales = np.repeat([command.unitless_linear, command.unitless_angular], 3)
        self._frame_id, self._twists = settings.command_frame, command.interface == "twist"

    def read(self, message: Any) -> Command:
        """Returns the command in a message.

        Raises:
            CommandError: Its frame is another one, or its numbers are not finite, absurd, or no
                rotation.
        """
        frame_id = message.header.frame_id
        if frame_id != self._frame_id:
            raise CommandError(f"frame is {frame_id[:80]!r}; accepted: {self._frame_id!r}")
        stamp = stamp_ns(message)
        if self._twists:
            linear, angular = message.twist.linear, message.twist.angular
            twist = _finite("twist", [*_xyz(linear), *_xyz(angular)])
            return Command(stamp, twist=twist * self.scales)
        position, orientation = message.pose.position, message.pose.orientation
        place = _finite("position", _xyz(position))
        quaternion = _finite("orientation", [*_xyz(orientation), orientation.w])
        length = float(np.linalg.norm(quaternion))
        if abs(length - 1.0) > _UNIT:
            raise CommandError(f"orientation has length {length:.4g}; accepted: 1")
        return Command(stamp, target=Pose(place, Rotation.from_quat(quaternion).as_matrix()))


def _xyz(part: Any) -> list[float]:
    return [part.x, part.y, part.z]


def _finite(name: str, values: list[float]) -> np.ndarray:
    if not (np.abs(values) <= _MOST).all():
        raise CommandError(f"{name} is {values}; accepted: finite numbers, up to {_MOST:g}")
    return np.array(values)

"""Reads what a person asks for from a joystick's or a teleoperation node's message. No ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heisd_ros.errors import TeleopError
from heisd_ros.robot.teleop_parameters import TeleopParameters

MOST_DEFLECTION = 1.5
"""Deflection that is still believed, since drivers overshoot; it counts as 1."""
MOST_SPEED = 10.0
"""Twist, m/s or rad/s, that is still believed; a faster one has other units."""


@dataclass(frozen=True, eq=False)
class Wish:
    """What a person asks of the arm at one moment.

    Attributes:
        pressed: Whether the person wants to command: the deadman is held, or the twist is not zero.
        twist: (6,), m/s and rad/s.
        along_tip: Whether the twist is along the axes of the tip, not of the base.
        openness: Wanted opening of the gripper: 0 closed, 1 open; None: as it is.
    """

    pressed: bool
    twist: np.ndarray
    along_tip: bool = False
    openness: float | None = None


class Joystick:
    """Maps a joystick's axes and buttons to wishes.

    Args:
        settings: Which axis and button has which purpose.
    """

    def __init__(self, settings: TeleopParameters) -> None:
        self.settings = settings
        self._axes = [(int(axis[1:]), axis[0] == "-") if axis else None for axis in settings.axes]
        self._held: set[str] | None = None  # buttons held in the newest good message

    def asks(self, message: Any) -> bool:
        """Returns whether the deadman is held, though the message may be of no use otherwise."""
        number = self.settings.deadman_button
        return len(message.buttons) > number and message.buttons[number] != 0

    def read(self, message: Any) -> Wish:
        """Returns the wish of a sensor_msgs/Joy.

        Raises:
            TeleopError: An axis or a button is missing, or has a value that is none.
        """
        axes, buttons = list(message.axes), list(message.buttons)
        most = max((axis[0] for axis in self._axes if axis), default=-1)
        _check_length("axes", axes, most)
        _check_length("buttons", buttons, max(self.settings.buttons.values()))
        for i, value in enumerate(axes):
            if not abs(value) <= MOST_DEFLECTION:
                raise TeleopError(f"axes[{i}] is {value:g}; accepted: -1 to 1")
        for i, value in enumerate(buttons):
            if value not in (0, 1):
                raise TeleopError(f"buttons[{i}] is {value}; accepted: 0 or 1")
        held = {name for name, number in self.settings.buttons.items() if buttons[number]}
        shares = np.array([self._share(axes, axis) for axis in self._axes])
        speeds = self.settings.max_linear_speed, self.settings.max_angular_speed
        return Wish(
            pressed="deadman" in held,
            twist=_within(shares * np.repeat(speeds, 3), *speeds),
            along_tip=self.settings.frame == "tip",
            # Both at once say nothing.
            openness={"open": 1.0, "close": 0.0}.get("".join(held & {"open", "close"})),
        )

    def clicked(self, message: Any) -> set[str]:
        """Returns the purposes of buttons that a readable message is the first to hold."""
        numbers = self.settings.buttons
        before = self._held
        self._held = {name for name, number in numbers.items() if message.buttons[number]}
        return set() if before is None else self._held - before

    def _share(self, axes: Sequence[float], axis: tuple[int, bool] | None) -> float:
        if axis is None:
            return 0.0
        number, reversed_ = axis
        value, zone = min(1.0, max(-1.0, axes[number])), self.settings.deadzone
        share = math.copysign(max(0.0, abs(value) - zone) / (1.0 - zone), value)
        return -share if reversed_ else share


class TwistReader:
    """Reads the twists of a teleoperation node.

    Args:
        settings: Speeds and dead zone.
        base_frame: Name of the robot's base frame.
        tip_frame: Name of its tip frame.
    """

    def __init__(self, settings: TeleopParameters, base_frame: str, tip_frame: str) -> None:
        self.settings = settings
        self._frames = {base_frame: False, tip_frame: True}

    def asks(self, message: Any) -> bool:
        """Returns whether the twist is not zero; one that is no number is not."""
        twist = _numbers(message)
        linear, angular = float(np.linalg.norm(twist[:3])), float(np.linalg.norm(twist[3:]))
        most, zone = self.settings, self.settings.deadzone
        slow = linear <= zone * most.max_linear_speed and angular <= zone * most.max_angular_speed
        return not slow

    def read(self, message: Any) -> Wish:
        """Returns the wish of a geometry_msgs/TwistStamped.

        Raises:
            TeleopError: A number is not finite or absurd, or the frame is neither base nor tip.
        """
        twist, frame = _numbers(message), message.header.frame_id
        if not (np.abs(twist) <= MOST_SPEED).all():
            raise TeleopError(
                f"twist is {twist.tolist()}; accepted: up to {MOST_SPEED:g} m/s and rad/s"
            )
        if frame not in self._frames:
            accepted = " or ".join(map(repr, self._frames))
            raise TeleopError(f"twist is in frame {frame!r}; accepted: {accepted}")
        pressed = self.asks(message)
        speeds = self.settings.max_linear_speed, self.settings.max_angular_speed
        return Wish(pressed, _within(twist, *speeds), along_tip=self._frames[frame])


def _numbers(message: Any) -> np.ndarray:
    linear, angular = message.twist.linear, message.twist.angular
    return np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])


def _check_length(name: str, values: Sequence[Any], last: int) -> None:
    if len(values) <= last:
        raise TeleopError(
            f"{name} has {len(values)} numbers; accepted: at least {last + 1}, as the parameters "
            f"teleop.* name number {last}"
        )


def _within(twist: np.ndarray, linear: float, angular: float) -> np.ndarray:
    """Scales both parts of a twist down to their speeds, each with its direction."""
    limited = twist.copy()
    for part, most in ((slice(0, 3), linear), (slice(3, 6), angular)):
        limited[part] *= min(1.0, most / (float(np.linalg.norm(twist[part])) or 1.0))
    return limited

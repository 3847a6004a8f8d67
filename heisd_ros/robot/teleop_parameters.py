"""Parameters of the VLA node for a person who takes the arm over by joystick or by twists."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from heisd_ros.robot.declare import ROS_NAME, Parameters, at_most, parameter

RELEASE_SEC = 0.15
"""Longest time, s, from the release of the deadman button to the last command that moves."""
_TRANSPORT_SEC = 0.01
"""Part of it, s, that is left to the transport of the message and to jitter."""
_SILENT_PERIODS = 3.0
"""Periods of a joystick after which it is silent: one message may be lost, or come late."""
_AXIS = re.compile(r"[+-]\d{1,2}")
_BUTTONS = ("deadman", "return", "open", "close", "success", "failure", "discard")


@dataclass(frozen=True)
class TeleopParameters(Parameters):
    """Takeover by a person (docs/takeover.md); off while both topics are empty."""

    joy_topic: str = parameter(
        "",
        "Topic of a joystick (sensor_msgs/Joy), such as joy, whose deadman button takes the arm "
        "over; empty: none.",
    )
    twist_topic: str = parameter(
        "",
        "Topic of twists of a teleoperation node (geometry_msgs/TwistStamped), such as "
        "~/input/teleop; one that is not zero takes the arm over; empty: none.",
    )
    on_release: str = parameter(
        "hold",
        "What follows when the deadman is released: the arm is held until it is given back "
        "(teleop.return_button, ~/takeover), or the policy has it back. After silence or a fault "
        "the arm is held in either case.",
        choices=("hold", "policy"),
    )
    timeout_sec: float = parameter(
        0.2,
        "Age (s) of the newest message from which a joystick counts as released, and the largest "
        "difference of its stamp from the node's clock; joy_node repeats at 20 Hz by default.",
        low=0.02,
        high=2.0,
        looseness=at_most,
    )
    joy_rate_hz: float = parameter(
        0.0,
        "Rate (Hz) at which the joystick repeats its state, such as joy_node's autorepeat_rate. "
        "With it the joystick counts as released three periods after its newest message, and an "
        "unplugged one stops the arm within 0.15 s: configure accepts only speeds that allow it. "
        "0: after teleop.timeout_sec.",
        low=0.0,
        high=1000.0,
    )
    max_linear_speed: float = parameter(
        0.05,
        "Speed (m/s) of a full deflection, and limit of a person's twists, beside all limits of "
        "commands.",
        low=0.001,
        high=1.0,
        looseness=at_most,
    )
    max_angular_speed: float = parameter(
        0.15, "Angular speed (rad/s), likewise.", low=0.001, high=10.0, looseness=at_most
    )
    frame: str = parameter(
        "base",
        "Whose axes the joystick moves along: those of robot.base_frame or of robot.tip_frame. "
        "Twists name theirs.",
        choices=("base", "tip"),
    )
    axes: tuple[str, ...] = parameter(
        ("+1", "+0", "+4", "-6", "+7", "+3"),
        "The joystick's axis, with its sign, for motion along x, y, z and about x, y, z; '' for "
        "none. Default: sticks and cross of an Xbox controller under joy_node.",
    )
    deadzone: float = parameter(
        0.1, "Deflection that still counts as none, as a share of the full one.", low=0.0, high=0.9
    )
    deadman_button: int = parameter(
        4, "Button that has to be held while the arm moves.", low=0, high=63
    )
    return_button: int = parameter(
        7, "Button that gives the arm back to the policy; -1: none.", low=-1, high=63
    )
    open_button: int = parameter(
        1, "Button that opens the gripper, with the deadman held; -1: none.", low=-1, high=63
    )
    close_button: int = parameter(0, "Button that closes it, likewise.", low=-1, high=63)
    success_button: int = parameter(
        -1, "Button that reports the episode as a success; -1: none.", low=-1, high=63
    )
    failure_button: int = parameter(-1, "Likewise as a failure.", low=-1, high=63)
    discard_button: int = parameter(
        -1, "Likewise as one to be left out, whatever became of it.", low=-1, high=63
    )

    @property
    def enabled(self) -> bool:
        """Whether a person can take the arm over."""
        return bool(self.joy_topic or self.twist_topic)

    @property
    def silence_sec(self) -> float:
        """Age of the newest message, s, from which a joystick counts as released."""
        if self.joy_rate_hz == 0.0:
            return self.timeout_sec
        return min(self.timeout_sec, _SILENT_PERIODS / self.joy_rate_hz)

    @property
    def promised_sec(self) -> float:
        """Part of the time of a stop, s, in which an unplugged joystick is noticed."""
        return self.silence_sec if self.joy_topic and self.joy_rate_hz > 0.0 else 0.0

    @property
    def buttons(self) -> dict[str, int]:
        """Number of each button that is used, by its purpose."""
        numbers = {name: int(getattr(self, f"{name}_button")) for name in _BUTTONS}
        return {name: number for name, number in numbers.items() if number >= 0}

    def _problems(self) -> Iterator[tuple[str, str]]:
        for name in ("joy_topic", "twist_topic"):
            topic = getattr(self, name)
            if topic and not ROS_NAME.fullmatch(topic):
                yield name, "the name of a topic, such as joy or ~/input/teleop"
        if self.joy_topic and self.joy_topic == self.twist_topic:
            yield "twist_topic", "another topic than 'teleop.joy_topic'"
        if len(self.axes) != 6 or not all(a == "" or _AXIS.fullmatch(a) for a in self.axes):
            yield "axes", "six texts like '+1' or '-0', '' for none"
        used: dict[int, str] = {}
        for name, number in self.buttons.items():
            if number in used:
                yield f"{name}_button", f"another button than 'teleop.{used[number]}_button'"
            used[number] = name


def release_sec(speed: float, acceleration: float, jerk: float) -> float:
    """Returns the longest time that a smooth stop may take, s, when it begins while speeding up.

    The acceleration fades first, then a ramp with rounded ends follows (`safety/ramp.py`).

    Args:
        speed: The speed that is reached, m/s or rad/s.
        acceleration: Limit, m/s^2 or rad/s^2; 0: none.
        jerk: Limit, m/s^3 or rad/s^3; 0: none.
    """
    if acceleration == 0.0:
        return 0.0
    if jerk == 0.0:
        return speed / acceleration
    peak = min(acceleration, math.sqrt(speed * jerk))
    return speed / peak + 2.0 * peak / jerk


def fastest_release(
    speed: float, acceleration: float, jerk: float, tick_sec: float, silence_sec: float = 0.0
) -> float:
    """Returns the greatest speed, at most the given one, that ends in time after a release.

    Args:
        speed: The wanted speed, m/s or rad/s.
        acceleration: As in `release_sec`.
        jerk: As in `release_sec`.
        tick_sec: Time from one command to the next, s; 0: a command goes out at once.
        silence_sec: Time until a joystick that is unplugged counts as released, s.
    """
    left = RELEASE_SEC - tick_sec - _TRANSPORT_SEC - silence_sec
    if left <= 0.0:
        return 0.0
    if release_sec(speed, acceleration, jerk) <= left:
        return speed
    low, high = 0.0, speed
    for _ in range(50):
        middle = (low + high) / 2.0
        fits = middle > 0.0 and release_sec(middle, acceleration, jerk) <= left
        low, high = (middle, high) if fits else (low, middle)
    return low

"""Parameters of `heisd_guard`: the VLA node's, from the same file, and its own tolerances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heisd_ros.robot.declare import Parameters, group, parameter
from heisd_ros.robot.parameters import VlaNodeParameters

_FEWEST_TICKS = 2.0


@dataclass(frozen=True)
class GuardParameters(Parameters):
    """How far commands may be from the limits that node and guard share, and how late."""

    command_timeout_sec: float = parameter(
        0.08,
        "Time (s, steady clock) without a command after which a moving arm is stopped; less than "
        "command.controller_timeout_sec for twists, so that the stop is a ramp.",
        low=0.01,
        high=1.0,
    )
    max_stamp_age_sec: float = parameter(
        0.1,
        "How far (s) the header stamp of a command may differ, at arrival, from the guard's clock.",
        low=0.005,
        high=1.0,
    )
    margin_m: float = parameter(
        0.01,
        "How far (m) beyond the workspace box, command.max_lead_m and collision.stop_m a command "
        "may lead, since node and guard do not see the same joint states; and how far from the "
        "measured pose the first target pose may be.",
        low=0.0,
        high=0.1,
    )
    margin_rad: float = parameter(
        0.05,
        "How far (rad) beyond joints.stop_rad, but not a joint's limit, and command.max_lead_rad a "
        "command may lead, and how far the first target pose may be turned from the measured one.",
        low=0.0,
        high=0.5,
    )
    excess_share: float = parameter(
        0.1,
        "Share by which a command may exceed the limits of speed, acceleration, jerk and joint "
        "speed.",
        low=0.0,
        high=1.0,
    )


@dataclass(frozen=True)
class GuardNodeParameters(VlaNodeParameters):
    """Settings of `heisd_guard`: it reads the VLA node's file, so their limits cannot differ.

    Raises:
        ValueError: A value is not accepted, or leaves the guard without a limit to check.
    """

    guard: GuardParameters = group(GuardParameters)

    def gaps(self) -> list[str]:
        """Returns what the guard does not check with these settings, one sentence each."""
        return [
            f"command.max_{part}_jerk is 0: heisd_guard checks no {part} jerk"
            for part in ("linear", "angular")
            if getattr(self.command, f"max_{part}_jerk") == 0.0
        ]

    def _problems(self) -> Iterator[tuple[str, str]]:
        yield from super()._problems()
        command, timeout = self.command, self.guard.command_timeout_sec
        if command.interface not in ("twist", "pose"):
            yield (
                "command.interface",
                "'twist' or 'pose': heisd_guard checks motion of the tip, neither joint commands "
                "nor the model's own numbers",
            )
        if command.stamp != "now":
            yield "command.stamp", "'now' with heisd_guard, which compares stamps with its clock"
        if command.rate_hz == 0.0:
            yield "command.rate_hz", "a rate (Hz) with heisd_guard: commands are the heartbeat"
        elif timeout < _FEWEST_TICKS / command.rate_hz:
            least = _FEWEST_TICKS / command.rate_hz
            yield "guard.command_timeout_sec", f"at least 2 / 'command.rate_hz', {least:g} s"
        for part in ("linear", "angular"):
            if getattr(command, f"max_{part}_acceleration") == 0.0:
                yield f"command.max_{part}_acceleration", "a limit with heisd_guard"
        if command.interface == "twist" and timeout >= command.controller_timeout_sec:
            least = command.controller_timeout_sec
            yield (
                "guard.command_timeout_sec",
                f"less than 'command.controller_timeout_sec', {least:g} s",
            )

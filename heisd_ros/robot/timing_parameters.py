"""Parameters of how punctual commands are."""

from __future__ import annotations

from dataclasses import dataclass

from heisd_ros.robot.declare import parameter


@dataclass(frozen=True)
class TimingParameters:
    """When a command is late, and what is done to make it come in time."""

    late_share: float = parameter(
        "command.late_share",
        0.5,
        "Share of the period of command.rate_hz by which a late command is late; those are counted "
        "in diagnostics.",
        low=0.01,
        high=10.0,
    )
    late_limit: float = parameter(
        "command.late_limit",
        0.05,
        "Share of the last 200 commands that may be late; above it there is a warning.",
        low=0.0,
        high=1.0,
    )
    realtime_priority: int = parameter(
        "executor.realtime_priority",
        0,
        "Priority of the thread that sends commands under SCHED_FIFO; needs the right to it "
        "(rtprio in limits.conf); where it is missing, a warning says so. 0: the usual scheduling.",
        low=0,
        high=99,
        read_only=True,
    )

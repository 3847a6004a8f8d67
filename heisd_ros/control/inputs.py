"""Inputs of the VLA node: a message, a complete set, and the health of one input."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from heisd_ros.control.holds import HoldReason

NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second; stamps and steady times are whole nanoseconds."""


def stamp_ns(message: Any) -> int:
    """Returns the header stamp of a message in nanoseconds."""
    return message.header.stamp.sec * NANOSECONDS + message.header.stamp.nanosec


def image_inputs(views: Sequence[str]) -> list[str]:
    """Returns the names of the raw image topics, one per view; the first view's has no suffix."""
    suffixes = ["", *(f"_{re.sub('[^A-Za-z0-9]+', '_', view)}" for view in views[1:])]
    return [f"~/input/image{suffix}" for suffix in suffixes]


@dataclass(frozen=True)
class Received:
    """A message's content with its header stamp and the steady time of its reception, ns."""

    stamp: int
    received: int
    content: Any


@dataclass(frozen=True)
class ObservationSet:
    """One image of every view and one joint state that belong together.

    Attributes:
        images: Image messages, one a view, in the views' order.
        arm: The joint state nearest to the first view's image; content is an `ArmState`.
        complete: Steady time at which the set was complete, ns.
        spread: Largest difference of the header stamps, ns.
    """

    images: tuple[Received, ...]
    arm: Received
    complete: int
    spread: int

    @property
    def stamp(self) -> int:
        """Header stamp of the first view's image, ns."""
        return self.images[0].stamp


@dataclass
class InputHealth:
    """What is known about one input.

    Attributes:
        name: Name of the input.
        received: Steady time of the newest good message, ns.
        fault: What was wrong with a message, so that the arm may not move.
        reason: The hold of that fault; None: that of the input's kind.
        rejected: Messages that could not be used.
        arrivals: Steady times of good messages, ns.
    """

    name: str
    received: int | None = None
    fault: str | None = None
    reason: HoldReason | None = None
    rejected: int = 0
    arrivals: deque[int] = field(default_factory=lambda: deque(maxlen=32))
    _rejected_at: int | None = None

    def accept(self, now: int, recovery_sec: float = 0.0) -> None:
        """Records a good message, which ends a fault once the time of recovery is over.

        One good message among bad ones, as from two conflicting sources, does not end it.
        """
        self.received = now
        self.arrivals.append(now)
        bad = self._rejected_at
        if bad is None or now - bad >= recovery_sec * NANOSECONDS:
            self.fault = self.reason = None

    def reject(self, fault: str, now: int | None = None, reason: HoldReason | None = None) -> None:
        """Records a message that cannot be used.

        Args:
            fault: What is wrong with it.
            now: Steady time, ns, from which the time of recovery counts; None: no recovery time.
            reason: The hold; None: that of the input's kind.
        """
        self.fault, self.reason, self._rejected_at = fault, reason, now
        self.rejected += 1

    def age_sec(self, now: int) -> float:
        """Returns the seconds since the last good message; infinite before the first."""
        return float("inf") if self.received is None else (now - self.received) / NANOSECONDS

    def rate_hz(self, now: int) -> float:
        """Returns good messages per second, over at most the last two seconds."""
        recent = [t for t in self.arrivals if now - t <= 2 * NANOSECONDS]
        if len(recent) < 2:
            return 0.0
        return (len(recent) - 1) * NANOSECONDS / (now - recent[0])


@dataclass(frozen=True)
class IngestLimits:
    """Limits of the buffer, in the units of the parameters of the same names; 0: not checked."""

    image_timeout_sec: float
    joint_state_timeout_sec: float
    frozen_motion_rad: float
    sync_tolerance_sec: float
    frozen_images: int = 0
    frozen_joint_states: int = 0
    max_stamp_age_sec: float = 0.0
    recovery_sec: float = 0.5
    joint_margin_rad: float = 0.1

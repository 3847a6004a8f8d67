"""Whether the arm is seen to do what it is told: dead reckoning beside what is measured.

Encoders that froze, or a driver that repeats itself, tell of an arm that stands while it moves. So
the commanded motion is integrated, and what is measured of it is taken off again.
"""

from __future__ import annotations

import numpy as np

STEP_M = 0.003
"""The measured tip has moved along an axis when it has gone this far: noise does not."""
FORGET_M = 0.05
"""An arm that was seen to go this far where it was led has made good 63% of what it was behind: an
arm that makes half of each motion stays within this of what is reckoned, and is no fault."""
STILL_RAD = 1e-4
"""A joint that stays within this (rad or m) stands still; noise of encoders is less."""
JOINT_RAD, ARM_RAD = 0.03, 0.01
"""Motion that one joint, or a joint of an arm that stands still altogether, should have made."""
_STANDING_SEC = 0.5
"""The arm stands still altogether when no joint has moved for this long."""


class ReckonedTip:
    """Where the tip would be if it had made every commanded motion since it was seen to make one.

    Each axis of the base frame is reckoned by itself, as the walls of the workspace are. Measured
    motion counts only where it goes with the commands: whoever guides a held arm by hand, or resets
    a simulation, makes no lead of it.

    Attributes:
        lead: (3,), m, how far the commands are ahead of what was measured.
        behind_sec: (3,), s, for how long the tip has not gone where the commands lead.
    """

    def __init__(self) -> None:
        self.lead, self.behind_sec = np.zeros(3), np.zeros(3)
        self._seen: np.ndarray | None = None

    def command(self, velocity: np.ndarray, seconds: float) -> None:
        """Takes a commanded velocity, (3,), m/s, that was in force for some time."""
        self.lead = self.lead + velocity * seconds
        self.behind_sec = self.behind_sec + seconds

    def measure(self, position: np.ndarray) -> None:
        """Takes the measured position of the tip, (3,), m."""
        if self._seen is None:
            self._seen, self.lead = position.copy(), np.zeros(3)
        motion = position - self._seen
        moved = np.abs(motion) > STEP_M
        behind, way = np.abs(self.lead), np.sign(self.lead)
        made = np.where(moved, np.clip(motion * way, 0.0, behind), 0.0)
        self.lead = way * (behind - made) * np.exp(-made / FORGET_M)
        self.behind_sec[(made > 0.0) | (np.abs(self.lead) <= STEP_M)] = 0.0
        self._seen[moved] = position[moved]

    @property
    def position(self) -> np.ndarray | None:
        """(3,), m, where the tip would be; None before the first measurement."""
        return None if self._seen is None else self._seen + self.lead


class StillJoints:
    """Joints that stand still though they were told to move.

    Attributes:
        told: (n,), rad or m, what a joint was told to move by since it last moved.
        due_sec: (n,), s, for how long that has been so much that it should have shown.
    """

    def __init__(self, count: int) -> None:
        self.told, self.due_sec, self._still_sec = np.zeros((3, count))
        self._seen: np.ndarray | None = None

    def update(self, positions: np.ndarray, motion: np.ndarray, seconds: float) -> None:
        """Takes what was commanded, and what is measured after it.

        Args:
            positions: (n,), measured, rad or m.
            motion: (n,), commanded since the last call, rad or m.
            seconds: Time since then.
        """
        if self._seen is None:
            self._seen = positions.copy()
        moved = np.abs(positions - self._seen) > STILL_RAD
        self._seen[moved] = positions[moved]
        self.told = np.where(moved, 0.0, self.told + motion)
        self._still_sec = np.where(moved, 0.0, self._still_sec + seconds)
        standing = bool((self._still_sec >= _STANDING_SEC).all())
        due = np.abs(self.told) >= (ARM_RAD if standing else JOINT_RAD)
        self.due_sec = np.where(due, self.due_sec + seconds, 0.0)


def foremost(measured: np.ndarray, reckoned: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The coordinate, of two, that is further where a motion leads.

    Args:
        measured: (3,), m.
        reckoned: (3,), m.
        wanted: (3,), the motion, m/s.
    """
    return np.where((reckoned - measured) * wanted > 0.0, reckoned, measured)

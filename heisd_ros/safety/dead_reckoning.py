"""Checks that measured motion follows the commands, by dead reckoning.

With frozen encoders, or a driver that repeats its last message, a moving arm seems to stand still.
So the commanded motion is integrated, and the measured motion is subtracted from it.
"""

from __future__ import annotations

import numpy as np

STEP_M = 0.003
"""Distance along an axis that counts as motion of the measured tip; noise is less."""
FORGET_M = 0.05
"""After measured motion over this distance in the commanded direction, 63% of the lead is gone: an
arm that makes half of each motion stays within this lead, which is no fault."""
STILL_RAD = 1e-4
"""A joint that stays within this (rad or m) stands still; the noise of encoders is less."""
JOINT_RAD, ARM_RAD = 0.03, 0.01
"""Motion that one joint, or a joint of an arm that stands still altogether, should have made."""
_STANDING_SEC = 0.5
"""The whole arm stands still when no joint has moved for this long."""


class ReckonedTip:
    """The position of the tip if it had made every commanded motion since it was last seen to move.

    Each axis of the base frame is integrated separately, as the walls of the workspace are.
    Measured motion counts only in the commanded direction: guiding a held arm by hand, or resetting
    a simulation, creates no lead.

    Attributes:
        lead: (3,), m, how far the commands are ahead of what was measured.
        behind_sec: (3,), s, for how long the tip has not gone where the commands lead.
    """

    def __init__(self) -> None:
        self.lead, self.behind_sec = np.zeros(3), np.zeros(3)
        self._seen: np.ndarray | None = None

    def command(self, velocity: np.ndarray, seconds: float) -> None:
        """Adds a commanded velocity, (3,), m/s, that was in force for `seconds`."""
        self.lead = self.lead + velocity * seconds
        self.behind_sec = self.behind_sec + seconds

    def measure(self, position: np.ndarray) -> None:
        """Updates the lead with the measured position of the tip, (3,), m."""
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
        """Returns the reckoned position, (3,), m; None before the first measurement."""
        return None if self._seen is None else self._seen + self.lead


class StillJoints:
    """Detects joints that stand still although they are commanded to move.

    Attributes:
        told: (n,), rad or m, commanded motion of each joint since it last moved.
        due_sec: (n,), s, for how long that has been so much that motion should be visible.
    """

    def __init__(self, count: int) -> None:
        self.told, self.due_sec, self._still_sec = np.zeros((3, count))
        self._seen: np.ndarray | None = None

    def update(self, positions: np.ndarray, motion: np.ndarray, seconds: float) -> None:
        """Updates with commanded motion and the positions measured after it.

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
    """Returns, by coordinate, the position that is further in the direction of a motion.

    Args:
        measured: (3,), m.
        reckoned: (3,), m.
        wanted: (3,), the motion, m/s.
    """
    return np.where((reckoned - measured) * wanted > 0.0, reckoned, measured)

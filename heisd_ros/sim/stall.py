"""When a simulated person takes the arm over from a policy: once the policy stalls."""

from __future__ import annotations

from collections import deque

import numpy as np

STALL_STEPS, STALL_M = 40, 0.005
"""A policy stalls where the tip stays within this distance (m) for so many control steps."""


class Stall:
    """Watches the tip of an arm that a policy moves; one for each episode.

    Attributes:
        at: The control step at which the person took over; None while the policy leads.
    """

    def __init__(self) -> None:
        self.at: int | None = None
        self._tips: deque[np.ndarray] = deque(maxlen=STALL_STEPS)

    def note(self, tip: np.ndarray, step: int) -> bool:
        """Takes the tip's position (3,), m, of a control step; returns whether it stalls now."""
        self._tips.append(np.array(tip))
        reach = np.ptp(np.stack(self._tips), axis=0)
        stalls = len(self._tips) == STALL_STEPS and float(np.linalg.norm(reach)) < STALL_M
        if stalls and self.at is None:
            self.at = step
        return stalls

"""Notices an arm that is led out of a limit by small steps, each of which could be noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CREEP = 1e-3
"""Way, m or rad, that commands may lead out in all, beyond the least that the arm was out."""
_ROUND_OFF = 1e-9
"""Way that is none, m or rad: a target that is sent again differs by rounding."""


class Creep:
    """Judges how far each command leads out of some limits, and what all of them have come to.

    An arm beyond a limit may come back, and measured places are noisy, so a single command is
    compared with where the arm is. By itself that lets each command go a little further.

    Args:
        step: How much further out than the arm is a single command may lead, m or rad.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._least: NDArray[np.float64] | None = None

    def excess(self, out: NDArray[np.float64], led: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns by how much a command leads too far out, (n,), m or rad; up to 0 is accepted.

        Args:
            out: (n,), how far the arm is beyond each limit, m or rad; negative inside.
            led: (n,), how far the command leads beyond it, likewise.
        """
        out = np.maximum(out, 0.0)
        self._least = out if self._least is None else np.minimum(self._least, out)
        crept = np.where(led > out + _ROUND_OFF, led - self._least - CREEP, -np.inf)
        return np.maximum(led - out - self._step, crept)

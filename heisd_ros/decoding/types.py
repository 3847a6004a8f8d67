"""What goes into one control step and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

TIMING_KEYS = ("preprocess", "vision", "prefill", "decode", "detokenise", "total")


@dataclass(frozen=True)
class Observation:
    """What the robot perceives at one instant.

    Attributes:
        images: RGB uint8 [H, W, 3], one per view of the model, in its order.
        instruction: what the robot is to do.
        proprio: [P] in the units of the demonstrations; None for a model without that token.
    """

    images: tuple[NDArray[np.uint8], ...]
    instruction: str
    proprio: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class StepResult:
    """One step's action and how it came about.

    Attributes:
        action: [7] float64 in robot units: dx dy dz, drx dry drz, gripper.
        tokens: the 7 action token ids.
        source: what decided the action, for instance ``"autoregressive"``.
        reason: why that source was used, for a reader of the telemetry.
        timings_ms: milliseconds by `TIMING_KEYS`; ``total`` covers the whole step.
        passes: passes through the language model, the prefill included.
    """

    action: NDArray[np.float64]
    tokens: tuple[int, ...]
    source: str
    reason: str
    timings_ms: dict[str, float]
    passes: int


class Decoder(Protocol):
    """A policy: an observation in, an action out."""

    def infer(self, observation: Observation) -> StepResult:
        """Decide one step."""
        ...

    def reset(self) -> None:
        """Forget the episode."""
        ...

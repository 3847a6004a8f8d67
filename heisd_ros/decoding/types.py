"""What goes into one control step and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from heisd_ros.kinematics.metric import MetricSample

TIMING_KEYS = (
    "preprocess",
    "vision",
    "retrieval",
    "prefill",
    "draft",
    "verify",
    "decode",
    "detokenise",
    "total",
)
"""Parts of a step; one that did not happen is absent. A pass over prompt and draft is `prefill`."""

Source = Literal["autoregressive", "retrieval", "last_command", "drafter", "skip"]


@dataclass(frozen=True)
class Observation:
    """What the robot perceives at one instant.

    Attributes:
        images: RGB uint8 [H, W, 3], one per view of the model, in its order.
        instruction: what the robot is to do.
        proprio: [P] in the units of the demonstrations; None for a model without that token.
        motion: the kinematic metric at this instant; None where nobody measures it.
    """

    images: tuple[NDArray[np.uint8], ...]
    instruction: str
    proprio: NDArray[np.float32] | None = None
    motion: MetricSample | None = None


class VerifiedFrame(NamedTuple):
    """What the model itself made of a frame: what a database keeps of it.

    Attributes:
        key: [D] float32, `TokenModel.retrieval_key`.
        tokens: the model's own tokens, each after those that were taken before it.
        margins: logit of each less that of the runner-up.
    """

    key: NDArray[np.float32]
    tokens: tuple[int, ...]
    margins: tuple[float, ...]


@dataclass(frozen=True)
class StepResult:
    """One step's action and how it came about.

    Attributes:
        action: [D] float64 in robot units, of the next control step: dx dy dz, drx dry drz,
            gripper; NaN where the answer stands for no action.
        tokens: ids of the answer.
        source: what decided the action: ``"autoregressive"``; ``"retrieval"``, ``"last_command"``
            (in slow motion, without a search) or ``"drafter"`` for a draft that the model
            verified; ``"skip"`` for a retrieved action it did not see.
        reason: why that source was used, for a reader of the telemetry.
        timings_ms: milliseconds by `TIMING_KEYS`; ``total`` covers the whole step.
        passes: passes through the language model, the prefill included.
        accepted: drafted tokens that verification accepted; None where nothing was drafted.
        similarity: cosine similarity of the best retrieved entry; None without a search.
        frame: what may be kept of the step; None where the model did not see it, and where nobody
            asked.
        chunk: [H, D] actions of all control steps that the answer decides; None: of one.
        problem: why the answer stands for no action; empty where it stands for one.
    """

    action: NDArray[np.float64]
    tokens: tuple[int, ...]
    source: Source
    reason: str
    timings_ms: dict[str, float]
    passes: int
    accepted: int | None = None
    similarity: float | None = None
    frame: VerifiedFrame | None = None
    chunk: NDArray[np.float64] | None = None
    problem: str = ""


class Settled(NamedTuple):
    """What came of a step that was executed unseen and verified while the arm moved.

    Attributes:
        ms: milliseconds that the verification took.
        agrees: whether the executed tokens keep the tolerance around the model's own.
    """

    ms: float
    agrees: bool


class Decoder(Protocol):
    """A policy: an observation in, an action out."""

    def infer(self, observation: Observation) -> StepResult:
        """Decide one step."""
        ...

    def settle(self) -> Settled | None:
        """Do what may be done while the arm moves; None where there was nothing to do."""
        ...

    def warning(self) -> str:
        """What somebody should know of, for diagnostics; empty while all is well."""
        ...

    def reset(self, success: bool | None = None) -> None:
        """Forget the episode.

        Args:
            success: how it ended, where that is known.
        """
        ...

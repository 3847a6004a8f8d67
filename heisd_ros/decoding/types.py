"""What goes into one control step and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

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


class Source(str, Enum):  # Python 3.10 has no StrEnum
    """What decided a step. A member is its name: it equals the plain string.

    Attributes:
        label: for the legend of a figure.
        colour: in figures and in RViz, ``#rrggbb``; Okabe and Ito's, which are told apart with any
            colour vision.
    """

    label: str
    colour: str

    def __new__(cls, name: str, label: str = "", colour: str = "") -> Source:
        """A member with its label and colour."""
        member = str.__new__(cls, name)
        member._value_, member.label, member.colour = name, label, colour
        return member

    AUTOREGRESSIVE = "autoregressive", "autoregressive", "#7f7f7f"
    RETRIEVAL = "retrieval", "retrieval, verified", "#0072b2"
    LAST_COMMAND = "last_command", "last command, verified", "#56b4e9"
    DRAFTER = "drafter", "drafter, verified", "#e69f00"
    SKIP = "skip", "retrieval, skipped verification", "#009e73"
    HOLD = "hold", "hold", "#d55e00"
    """The arm was held: of telemetry alone, no decoder returns it."""

    __str__ = str.__str__

    @property
    def letter(self) -> str:
        """How a column of one character a step writes it."""
        return self.value[0]

    @property
    def rgb(self) -> tuple[float, float, float]:
        """Red, green and blue of the colour, 0 to 1."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red / 255, green / 255, blue / 255


DECIDING = tuple(source for source in Source if source is not Source.HOLD)
"""The sources of a `StepResult`."""


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
        source: what decided the action: the model alone (``AUTOREGRESSIVE``), the proposer whose
            draft it verified, or a retrieved action that it did not see (``SKIP``).
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

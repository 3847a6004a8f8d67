"""The input and the result of one control step, and the protocol of a decoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

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


class _SourceType(type):
    """Lets `Source` be iterated over, as an Enum is."""

    def __iter__(cls) -> Iterator[Source]:
        return iter(list(_SOURCES.values()))

    def __len__(cls) -> int:
        return len(_SOURCES)


class Source(str, metaclass=_SourceType):
    """What decided a step. Each is equal to its name as a plain string.

    With its name alone it is looked up; with a label and a colour it is made, as a class of
    `proposers` makes its own.

    Attributes:
        label: text for the legend of a figure.
        colour: colour in figures and in RViz, ``#rrggbb``; from Okabe and Ito's palette, which
            can be told apart with any colour vision.
        proposes: whether a mode may name it as the only proposer.

    Raises:
        ValueError: there is no such source, or another one has the name or its first letter.
    """

    label: str
    colour: str
    proposes: bool

    AUTOREGRESSIVE: ClassVar[Source]
    RETRIEVAL: ClassVar[Source]
    LAST_COMMAND: ClassVar[Source]
    DRAFTER: ClassVar[Source]
    TAGS: ClassVar[Source]
    KEPT: ClassVar[Source]
    SKIP: ClassVar[Source]
    HOLD: ClassVar[Source]
    """The arm was held. Used only in telemetry; no decoder returns it."""
    PERSON: ClassVar[Source]
    """A person commanded the arm; likewise."""

    def __new__(
        cls, name: str, label: str = "", colour: str = "", *, proposes: bool = False
    ) -> Source:
        """Looks a source up, or makes one with its label and colour."""
        if not label:
            if name not in _SOURCES:
                raise ValueError(f"source is {name!r}; accepted: {', '.join(_SOURCES)}")
            return _SOURCES[name]
        if taken := [source for source in _SOURCES.values() if source.letter == name[0]]:
            raise ValueError(f"source {name!r} begins as {taken[0]!r} does")
        source = _SOURCES[name] = str.__new__(cls, name)
        source.label, source.colour, source.proposes = label, colour, proposes
        return source

    @classmethod
    def named(cls, text: str) -> Source | None:
        """Returns the source with this name or letter; None if there is none."""
        return next((each for each in cls if text in (each, each.letter)), None)

    @property
    def letter(self) -> str:
        """One character for compact tables with one column per step."""
        return self[0]

    @property
    def rgb(self) -> tuple[float, float, float]:
        """Red, green and blue of the colour, each 0 to 1."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red / 255, green / 255, blue / 255


_SOURCES: dict[str, Source] = {}
Source.AUTOREGRESSIVE = Source("autoregressive", "autoregressive", "#7f7f7f")
Source.RETRIEVAL = Source("retrieval", "retrieval, verified", "#0072b2", proposes=True)
Source.LAST_COMMAND = Source("last_command", "last command, verified", "#56b4e9", proposes=True)
Source.DRAFTER = Source("drafter", "drafter, verified", "#e69f00", proposes=True)
Source.TAGS = Source("tags", "fixed texts, verified", "#f0e442")
Source.KEPT = Source("kept", "kept reasoning, action decoded", "#cc79a7")
Source.SKIP = Source("skip", "retrieval, skipped verification", "#009e73")
Source.HOLD = Source("hold", "hold", "#d55e00")
Source.PERSON = Source("person", "person", "#000000")


def deciding() -> tuple[Source, ...]:
    """Returns the sources of a `StepResult`."""
    return tuple(each for each in Source if each not in (Source.HOLD, Source.PERSON))


@dataclass(frozen=True)
class Observation:
    """What the robot perceives at one instant.

    Attributes:
        images: RGB uint8 [H, W, 3], one per view of the model, in its order.
        instruction: the task in words.
        proprio: [P] in the units of the demonstrations; None for a model without that token.
        motion: the kinematic metric at this instant; None if it is not measured.
        after_hold: the arm was held since the observation before it.
    """

    images: tuple[NDArray[np.uint8], ...]
    instruction: str
    proprio: NDArray[np.float32] | None = None
    motion: MetricSample | None = None
    after_hold: bool = False


class VerifiedFrame(NamedTuple):
    """The model's own output for a frame, as a database keeps it.

    Attributes:
        key: [D] float32, `TokenModel.retrieval_key`.
        tokens: the model's own tokens, each after those accepted before it.
        margins: logit of each minus that of the runner-up.
    """

    key: NDArray[np.float32]
    tokens: tuple[int, ...]
    margins: tuple[float, ...]


@dataclass(frozen=True)
class ChunkPlace:
    """The place of an action in the chunk that it comes from.

    Attributes:
        number: chunks begun so far, this one included.
        index: of the action in its chunk, from 0.
        length: actions of the chunk that may be executed.
        delay_sec: from the observation to the first action of the chunk that was executed, s.
    """

    number: int
    index: int
    length: int
    delay_sec: float


@dataclass(frozen=True)
class StepResult:
    """One step's action and how it was decided.

    Attributes:
        action: [D] float64 in robot units, of the next control step: dx dy dz, drx dry drz,
            gripper; NaN if the answer encodes no action.
        tokens: ids of the answer.
        source: what decided the action: the model alone (``AUTOREGRESSIVE``), the proposer whose
            draft it verified, the model behind the reasoning of an earlier answer (``KEPT``), or a
            retrieved action that it did not verify (``SKIP``).
        reason: why that source was used, for the telemetry.
        timings_ms: milliseconds by `TIMING_KEYS`; ``total`` covers the whole step.
        passes: passes through the language model, the prefill included.
        accepted: drafted tokens that verification accepted; None if nothing was drafted.
        similarity: cosine similarity of the best retrieved entry; None without a search.
        frame: what may be kept of the step; None if the model did not verify it, or if it was not
            requested.
        chunk: [H, D] actions of all control steps that the answer decides; None: of one.
        problem: why the answer encodes no action; empty if it encodes one.
        chance: that the draft passes, or that the skipped action is harmless, as the predictor of
            the mode said before; None without one.
        reasoning: what the answer says in words, on one line, at most `LONGEST_TEXT` characters;
            empty for a model that does not reason.
        place: of the action in its chunk; None: no executor has chosen it yet.
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
    chance: float | None = None
    reasoning: str = ""
    place: ChunkPlace | None = None

    @property
    def actions(self) -> NDArray[np.float64]:
        """The actions of all control steps, [H, D]; `action` alone where there is one."""
        if self.chunk is None or len(self.chunk) == 1:
            return self.action[None]
        return self.chunk


class Settled(NamedTuple):
    """The outcome of a step that was executed first and verified while the arm moved.

    Attributes:
        ms: milliseconds that the verification took.
        agrees: whether the executed tokens are within the tolerance around the model's own.
    """

    ms: float
    agrees: bool


class Decoder(Protocol):
    """A policy: an observation in, an action out.

    A class that inherits from it defers nothing, warns of nothing and keeps no state.
    """

    def infer(self, observation: Observation) -> StepResult:
        """Decides one step: returns the action for an observation."""
        ...

    def settle(self) -> Settled | None:
        """Does the work that may be done while the arm moves; None if there was none."""
        return None

    def warning(self) -> str:
        """Returns a problem for the diagnostics that is no error; empty while all is well."""
        return ""

    def reset(self, success: bool | None = None) -> None:
        """Forgets the episode.

        Args:
            success: how it ended; None if unknown.
        """
        return

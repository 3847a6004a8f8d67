"""A control step as question and answer: both sides of both, so that they cannot differ.

The question is openpi's: pictures and proprioception by key, ``prompt``. The answer is openpi's:
``actions`` [H, 7]. What else this package's own two sides say to each other stands under `OWN`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from heisd_ros.decoding.types import DECIDING, Observation, Settled, Source, StepResult
from heisd_ros.errors import ImageError, MessageError, ProprioceptionError
from heisd_ros.files.bounded import LONGEST_TEXT, one_line
from heisd_ros.files.typed import typed
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.serving.layout import MOST_ACTIONS, OWN, Layout

PROMPT, ACTIONS = "prompt", "actions"


@dataclass(frozen=True)
class Asked:
    """What this package's client asks beyond openpi's observation.

    Attributes:
        step: number of the question; the answer repeats it.
        reset: forget the episode before, which ended as `success` says.
        success: None: nobody said.
        plain: decode without drafts, to measure speed by.
        settle: no observation, but: finish what the step before left over.
        motion: the metric's value, path length (m), radius (m) and speed (m/s), by name, as well as
            its kind, readiness and source; None: nobody measures it.
        after_hold: the arm was held since the step before.
    """

    step: int = 0
    reset: bool = False
    success: bool | None = None
    plain: bool = False
    settle: bool = False
    motion: MetricSample | None = None
    after_hold: bool = False


@dataclass(frozen=True)
class Told:
    """What this package's server tells beyond openpi's actions; see `StepResult`.

    Attributes:
        step: number of the question.
        tokens: token ids of the action.
        source: what decided.
        reason: why.
        timings_ms: milliseconds by part, as the server measured them.
        passes: passes through the language model.
        accepted: drafted tokens that were accepted.
        similarity: of the best retrieved entry.
        warning: the decoder's.
        problem: why the answer stands for no action.
        reasoning: what the answer says in words.
        settled: milliseconds and agreement, where there was something to settle.
    """

    step: int = 0
    tokens: tuple[int, ...] = ()
    source: str = Source.AUTOREGRESSIVE.value
    reason: str = "a server that says no more"
    timings_ms: dict[str, float] = field(default_factory=dict)
    passes: int = 0
    accepted: int | None = None
    similarity: float | None = None
    warning: str = ""
    problem: str = ""
    reasoning: str = ""
    settled: tuple[float, bool] | None = None


def question(layout: Layout, observation: Observation, asked: Asked) -> dict[str, Any]:
    """An observation as a message; what goes beyond openpi's only to a server that knows it."""
    keys = layout.views.values()
    message: dict[str, Any] = dict(zip(keys, observation.images, strict=True))
    message[PROMPT] = observation.instruction
    if observation.proprio is not None:
        message[layout.state] = np.asarray(observation.proprio, np.float32)
    return message | own_part(asked) if layout.own else message


def own_part(part: Asked | Told) -> dict[str, Any]:
    """What goes beyond openpi's protocol."""
    return {OWN: asdict(part)}


def read_question(layout: Layout, message: dict[str, Any]) -> Observation:
    """The observation that a message holds.

    Raises:
        ImageError, ProprioceptionError, MessageError: a part is missing or of another form.
    """
    images = tuple(_image(message, key) for key in layout.views.values())
    prompt, state = message.get(PROMPT), None
    if not isinstance(prompt, str):
        raise MessageError(f"{PROMPT!r} is missing or no text")
    if layout.proprio_size:
        state = message.get(layout.state)
        wanted = (layout.proprio_size,)
        if not isinstance(state, np.ndarray) or state.shape != wanted or state.dtype.kind != "f":
            got = getattr(state, "shape", "nothing")
            raise ProprioceptionError(
                f"{layout.state!r} is {got}; accepted: an array of {wanted[0]} real numbers"
            )
        state = state.astype(np.float32)
    asked = read_asked(message)
    return Observation(images, prompt, state, asked.motion, asked.after_hold)


def read_asked(message: dict[str, Any]) -> Asked:
    """What a message asks beyond openpi's observation: nothing, where it is openpi's client's.

    Raises:
        MessageError: it is malformed.
    """
    return _own(Asked, message)


def answer(result: StepResult, asked: Asked, warning: str) -> dict[str, Any]:
    """A result as a message."""
    told = Told(
        step=asked.step,
        tokens=tuple(map(int, result.tokens)),
        source=Source(result.source).value,
        reason=result.reason,
        timings_ms={name: float(ms) for name, ms in result.timings_ms.items()},
        passes=result.passes,
        accepted=result.accepted,
        similarity=None if result.similarity is None else float(result.similarity),
        warning=warning,
        problem=result.problem,
        reasoning=result.reasoning,
    )
    actions = np.asarray(result.actions, np.float64)
    timing = {"server_timing": {"infer_ms": told.timings_ms["total"]}}
    return {ACTIONS: actions, **timing, **own_part(told)}


def settled_answer(settled: Settled | None, asked: Asked, warning: str) -> dict[str, Any]:
    """What came of settling as a message."""
    done = None if settled is None else (float(settled.ms), bool(settled.agrees))
    return own_part(Told(step=asked.step, warning=warning, settled=done))


def read_told(message: dict[str, Any], asked: Asked, layout: Layout) -> Told:
    """What a server told beyond openpi's actions: the defaults, where it is one of openpi's.

    Raises:
        MessageError: it is malformed, or answers another question.
    """
    told = _own(Told, message)
    if layout.own and told.step != asked.step:
        raise MessageError(f"it answers question {told.step}, asked was {asked.step}")
    return told


def read_result(message: dict[str, Any], told: Told, layout: Layout, total_ms: float) -> StepResult:
    """The result that a message holds.

    Args:
        message: the server's.
        told: `read_told` of it.
        layout: what the server said of its model.
        total_ms: time from question to answer, which is what the step took.

    Raises:
        MessageError: it has no actions, or others than the layout says.
    """
    actions = message.get(ACTIONS)
    shape: tuple[int, ...] = actions.shape if isinstance(actions, np.ndarray) else ()
    good = len(shape) == 2 and 0 < shape[0] <= MOST_ACTIONS and shape[1] == layout.dimensions
    if not isinstance(actions, np.ndarray) or not good or actions.dtype.kind != "f":
        got = f"{shape} {actions.dtype}" if isinstance(actions, np.ndarray) else "not there"
        raise MessageError(
            f"{ACTIONS!r} are {got}; accepted: real numbers of shape (H, {layout.dimensions}), H "
            f"up to {MOST_ACTIONS}, "
            "end-effector displacement and gripper"
        )
    if told.source not in DECIDING:
        raise MessageError(f"source is {told.source!r}; accepted: {', '.join(DECIDING)}")
    return StepResult(
        action=actions[0].astype(np.float64),
        chunk=actions.astype(np.float64) if len(actions) > 1 else None,
        problem=told.problem,
        tokens=told.tokens,
        source=Source(told.source),
        reason=told.reason,
        timings_ms={**told.timings_ms, "total": total_ms},
        passes=told.passes,
        accepted=told.accepted,
        similarity=told.similarity,
        reasoning=one_line(told.reasoning, LONGEST_TEXT),
    )


def _own(kind: Any, message: dict[str, Any]) -> Any:
    try:
        return typed(kind, message.get(OWN, {}), OWN)
    except (ValueError, TypeError) as error:  # arrays, where numbers belong
        raise MessageError(str(error)) from error


def _image(message: dict[str, Any], key: str) -> np.ndarray:
    image = message.get(key)
    shape: tuple[int, ...] = image.shape if isinstance(image, np.ndarray) else ()
    good = len(shape) == 3 and shape[2] == 3 and 0 not in shape
    if not isinstance(image, np.ndarray) or not good or image.dtype != np.uint8:
        got = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else "not there"
        raise ImageError(f"{key!r} is {got}; accepted: RGB, uint8, [height, width, 3]")
    return image

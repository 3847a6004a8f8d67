"""Requests and replies of a control step, written and read in one place so that they agree.

A request is openpi's: images and proprioception by key, ``prompt``. A reply is openpi's:
``actions`` [H, D]. Fields that only this package's client and server exchange are under `OWN`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from heisd_ros.decoding.types import Observation, Settled, Source, StepResult, deciding
from heisd_ros.errors import ImageError, MessageError, ProprioceptionError
from heisd_ros.files.bounded import LONGEST_TEXT, one_line
from heisd_ros.files.typed import typed, within
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.serving.layout import MOST_ACTIONS, OWN, Layout

PROMPT, ACTIONS = "prompt", "actions"
_Count = Annotated[int, within(0, 2**31 - 1)]
"""What telemetry can hold."""
_MOST_SIDE = 16_384
"""Longest side of a picture, pixels: some models pad it to a square."""


@dataclass(frozen=True)
class StepRequest:
    """Fields of a request beyond openpi's observation.

    Attributes:
        step: number of the request; the reply repeats it.
        reset: a new episode begins; the previous one ended as `success` says.
        success: outcome of the previous episode; None: unknown.
        plain: decode without drafts, to measure speed by.
        settle: the request has no observation; it asks for the deferred verification.
        motion: the metric's value, path length (m), radius (m) and speed (m/s), by name, as well as
            its kind, readiness and source; None: it is not measured.
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
class StepReply:
    """Fields of a reply beyond openpi's actions; see `StepResult`.

    Attributes:
        step: number of the request.
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
        settled: time (ms) and agreement of the deferred verification; None: there was none.
    """

    step: int = 0
    tokens: tuple[_Count, ...] = ()
    source: str = Source.AUTOREGRESSIVE
    reason: str = "not given by the server"
    timings_ms: dict[str, float] = field(default_factory=dict)
    passes: _Count = 0
    accepted: _Count | None = None
    similarity: float | None = None
    warning: str = ""
    problem: str = ""
    reasoning: str = ""
    settled: tuple[float, bool] | None = None


def question(layout: Layout, observation: Observation, request: StepRequest) -> dict[str, Any]:
    """Returns a request as a message; a server of openpi's gets openpi's fields only."""
    keys = layout.views.values()
    message: dict[str, Any] = dict(zip(keys, observation.images, strict=True))
    message[PROMPT] = observation.instruction
    if observation.proprio is not None:
        state, names = np.asarray(observation.proprio, np.float32), layout.state.split(",")
        parts = np.split(state, [-1]) if len(names) > 1 else [state]
        message |= dict(zip(names, parts, strict=True))
    return message | own_part(request) if layout.own else message


def own_part(part: StepRequest | StepReply) -> dict[str, Any]:
    """Returns the fields beyond openpi's protocol, as part of a message."""
    return {OWN: asdict(part)}


def read_question(layout: Layout, message: dict[str, Any]) -> Observation:
    """Reads the observation of a request.

    Raises:
        ImageError, ProprioceptionError, MessageError: a part is missing or of another form.
    """
    images = tuple(_image(message, key) for key in layout.views.values())
    prompt, state = message.get(PROMPT), None
    if not isinstance(prompt, str) or len(prompt) > LONGEST_TEXT:
        raise MessageError(
            f"{PROMPT!r} is missing, no text, or longer than {LONGEST_TEXT} characters"
        )
    if layout.proprio_size:
        state = message.get(layout.state)
        wanted = (layout.proprio_size,)
        if not isinstance(state, np.ndarray) or state.shape != wanted or state.dtype.kind != "f":
            got = getattr(state, "shape", "nothing")
            raise ProprioceptionError(
                f"{layout.state!r} is {got}; accepted: an array of {wanted[0]} real numbers"
            )
        state = state.astype(np.float32)
    request = read_request(message)
    return Observation(images, prompt, state, request.motion, request.after_hold)


def read_request(message: dict[str, Any]) -> StepRequest:
    """Reads the fields beyond openpi's observation; the defaults for openpi's own client.

    Raises:
        MessageError: they are malformed.
    """
    return _own(StepRequest, message)


def answer(result: StepResult, request: StepRequest, warning: str) -> dict[str, Any]:
    """Returns a result as a message."""
    reply = StepReply(
        step=request.step,
        tokens=tuple(map(int, result.tokens)),
        source=str(result.source),
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
    timing = {"server_timing": {"infer_ms": reply.timings_ms["total"]}}
    return {ACTIONS: actions, **timing, **own_part(reply)}


def settled_answer(settled: Settled | None, request: StepRequest, warning: str) -> dict[str, Any]:
    """Returns the outcome of a deferred verification as a message."""
    done = None if settled is None else (float(settled.ms), bool(settled.agrees))
    return own_part(StepReply(step=request.step, warning=warning, settled=done))


def read_reply(message: dict[str, Any], request: StepRequest, layout: Layout) -> StepReply:
    """Reads the fields beyond openpi's actions; the defaults for a server of openpi's.

    Raises:
        MessageError: they are malformed, or the reply is to another request.
    """
    reply = _own(StepReply, message)
    if layout.own and reply.step != request.step:
        raise MessageError(f"it replies to request {reply.step}; sent was {request.step}")
    texts = ("reason", "warning", "problem")  # of every step's telemetry
    cut = {name: getattr(reply, name)[:LONGEST_TEXT] for name in texts}
    return replace(reply, **cut)


def read_result(
    message: dict[str, Any], reply: StepReply, layout: Layout, total_ms: float
) -> StepResult:
    """Reads the result of a reply.

    Args:
        message: the reply.
        reply: `read_reply` of it.
        layout: the server's description of its model.
        total_ms: time from request to reply, ms: the duration of the step.

    Raises:
        MessageError: it has no actions, or their shape is not the layout's.
    """
    actions = message.get(ACTIONS)
    shape: tuple[int, ...] = actions.shape if isinstance(actions, np.ndarray) else ()
    good = len(shape) == 2 and 0 < shape[0] <= MOST_ACTIONS and shape[1] == layout.dimensions
    if not isinstance(actions, np.ndarray) or not good or actions.dtype.kind != "f":
        got = f"{shape} {actions.dtype}" if isinstance(actions, np.ndarray) else "not there"
        raise MessageError(
            f"{ACTIONS!r} are {got}; accepted: real numbers of shape (H, {layout.dimensions}), H "
            f"up to {MOST_ACTIONS}, {layout.action_space or 'motion'} and gripper"
        )
    if reply.source not in deciding():
        raise MessageError(f"source is {reply.source!r}; accepted: {', '.join(deciding())}")
    return StepResult(
        action=actions[0].astype(np.float64),
        chunk=actions.astype(np.float64) if len(actions) > 1 else None,
        problem=reply.problem,
        tokens=reply.tokens,
        source=Source(reply.source),
        reason=reply.reason,
        timings_ms={**reply.timings_ms, "total": total_ms},
        passes=reply.passes,
        accepted=reply.accepted,
        similarity=reply.similarity,
        reasoning=one_line(reply.reasoning, LONGEST_TEXT),
    )


def _own(kind: Any, message: dict[str, Any]) -> Any:
    try:
        return typed(kind, message.get(OWN, {}), OWN)
    except (ValueError, TypeError) as error:  # arrays, where numbers belong
        raise MessageError(str(error)) from error


def _image(message: dict[str, Any], key: str) -> np.ndarray:
    image = message.get(key)
    shape: tuple[int, ...] = image.shape if isinstance(image, np.ndarray) else ()
    good = len(shape) == 3 and shape[2] == 3 and min(shape) > 0 and max(shape) <= _MOST_SIDE
    if not isinstance(image, np.ndarray) or not good or image.dtype != np.uint8:
        got = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else "not there"
        raise ImageError(
            f"{key!r} is {got}; accepted: RGB, uint8, [height, width, 3], up to {_MOST_SIDE} a side"
        )
    return image

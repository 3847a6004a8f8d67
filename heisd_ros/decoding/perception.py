"""From an observation to the input columns of the prompt: how every way of decoding begins."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.types import Observation
from heisd_ros.vla.engine import Engine
from heisd_ros.vla.vla import VLA, ModelInputs


class Perceived(NamedTuple):
    """An observation as the model's eyes leave it.

    Attributes:
        inputs: preprocessed, on the model's device.
        features: [1, V * N, D] visual features, before the projector.
    """

    inputs: ModelInputs
    features: Tensor


def perceive(
    vla: VLA,
    observation: Observation,
    *,
    engine: Engine | None = None,
    watch: Stopwatch | None = None,
    allow_unknown: bool = False,
) -> Perceived:
    """Preprocesses an observation and runs the vision towers.

    Args:
        vla: the model.
        observation: what it is to act on.
        engine: runs the towers; None: the model's own.
        watch: takes the laps ``preprocess`` and ``vision``.
        allow_unknown: accept an instruction that the model wasn't trained on.

    Raises:
        ImageError, UnknownInstructionError, ProprioceptionError: see `VLA.encode`.
    """
    inputs = vla.encode(
        observation.images,
        observation.instruction,
        observation.proprio,
        allow_unknown=allow_unknown,
    )
    if watch is not None:
        watch.lap("preprocess")
    features = (engine or vla.engine).vision(inputs.pixels)
    if watch is not None:
        watch.lap("vision")
    return Perceived(inputs, features)


def prompt_of(engine: Engine, seen: Perceived) -> Tensor:
    """The input columns of the prompt, [B, T, hidden]; the prefill is `Engine.start` on them.

    Args:
        engine: runs the projector.
        seen: B frames of one instruction: ``ids`` [1, T] or [B, T], the rest [B, ...].
    """
    inputs, features = seen
    ids = inputs.ids.expand(len(features), -1)
    return engine.model.embed(ids, engine.project(features), inputs.proprio)

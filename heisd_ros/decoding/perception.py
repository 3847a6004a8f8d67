"""From an observation to its visual features: how every way of decoding begins."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.types import Observation
from heisd_ros.vla.token_model import ModelInputs, TokenModel


class Perceived(NamedTuple):
    """An observation as the model's eyes leave it; `TokenModel.prompt` makes the prompt of both.

    Attributes:
        inputs: preprocessed, on the model's device.
        features: [1, N, D] visual features.
    """

    inputs: ModelInputs
    features: Tensor


def perceive(
    vla: TokenModel,
    observation: Observation,
    *,
    watch: Stopwatch | None = None,
    allow_unknown: bool = False,
) -> Perceived:
    """Preprocesses an observation and runs the vision towers.

    Args:
        vla: the model.
        observation: what it is to act on.
        watch: takes the laps ``preprocess`` and ``vision``.
        allow_unknown: accept an instruction that the model wasn't trained on.

    Raises:
        ImageError, UnknownInstructionError, ProprioceptionError: see `TokenModel.encode`.
    """
    inputs = vla.encode(
        observation.images,
        observation.instruction,
        observation.proprio,
        allow_unknown=allow_unknown,
    )
    if watch is not None:
        watch.lap("preprocess")
    features = vla.features(inputs)
    if watch is not None:
        watch.lap("vision")
    return Perceived(inputs, features)

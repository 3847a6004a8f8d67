"""Visual features of an observation: the first stage of every decoder."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.types import Observation
from heisd_ros.vla.token_model import ModelInputs, TokenModel


class Perceived(NamedTuple):
    """An observation after the vision towers; `TokenModel.prompt` makes the prompt of both fields.

    Attributes:
        inputs: preprocessed, on the model's device.
        features: [1, N, D] visual features.
    """

    inputs: ModelInputs
    features: Tensor


def perceive(
    vla: TokenModel, observation: Observation, *, watch: Stopwatch | None = None
) -> Perceived:
    """Preprocesses an observation and runs the vision towers.

    Args:
        vla: the model.
        observation: the observation of this step.
        watch: times the laps ``preprocess`` and ``vision``.

    Raises:
        ImageError, UnknownInstructionError, ProprioceptionError: see `TokenModel.encode`.
    """
    inputs = vla.encode(observation.images, observation.instruction, observation.proprio)
    if watch is not None:
        watch.lap("preprocess")
    features = vla.features(inputs)
    if watch is not None:
        watch.lap("vision")
    return Perceived(inputs, features)

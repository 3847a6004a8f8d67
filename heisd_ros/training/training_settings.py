"""Settings of training runs: what all share, and those of the VLA's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from heisd_ros.files.typed import check_fields, within


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a training run.

    Attributes:
        steps: Optimiser steps.
        batch_size: Samples a step.
        learning_rate: Peak of the cosine schedule.
        weight_decay: AdamW's, on matrices.
        warmup_steps: Steps of linear warm-up.
        seed: Seed of weights, order and augmentation.

    Raises:
        ValueError: A value is not accepted.
    """

    steps: Annotated[int, within(1)] = 4000
    batch_size: Annotated[int, within(1)] = 64
    learning_rate: Annotated[float, within(0)] = 1e-3
    weight_decay: Annotated[float, within(0)] = 0.05
    warmup_steps: Annotated[int, within(0)] = 100
    seed: Annotated[int, within(0)] = 0

    def __post_init__(self) -> None:
        """Checks every field; raises ValueError."""
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(RunSettings):
    """Settings of a training run of the VLA, see `RunSettings`.

    Attributes:
        soft_bins: Standard deviation of the soft target, in action bins.
        text_weight: Weight of the loss on an answer's text, relative to that on its actions.
        landmark_weight: Weight of the auxiliary loss.
        average: Decay of the moving average of the weights.
        brightness: Random gain and offset of the images, at most this share.
        proprio_noise: Standard deviation of the noise on the tip position, m.
    """

    soft_bins: Annotated[float, Field(gt=0)] = 2.0
    text_weight: Annotated[float, within(0)] = 1.0
    landmark_weight: Annotated[float, within(0)] = 1.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.995
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.1
    proprio_noise: Annotated[float, within(0)] = 0.002

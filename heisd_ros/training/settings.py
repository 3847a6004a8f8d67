"""Settings of a training run of the VLA."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training run.

    Attributes:
        steps: Optimiser steps.
        batch_size: Samples a step.
        learning_rate: Peak of the cosine schedule.
        weight_decay: AdamW's, on matrices.
        warmup_steps: Steps of linear warm-up.
        soft_bins: Standard deviation of the soft target, in action bins.
        landmark_weight: Weight of the auxiliary loss.
        average: Decay of the moving average of the weights.
        brightness: Random gain and offset of the images, at most this share.
        proprio_noise: Standard deviation of the noise on the tip position, m.
        seed: Seed of weights, order and augmentation.

    Raises:
        ValueError: A value is not accepted.
    """

    steps: int = 4000
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    soft_bins: float = 2.0
    landmark_weight: float = 1.0
    average: float = 0.995
    brightness: float = 0.1
    proprio_noise: float = 0.002
    seed: int = 0

    def __post_init__(self) -> None:
        """Validates every field; NaN is in no range."""
        for name, least in {"steps": 1, "batch_size": 1, "warmup_steps": 0, "seed": 0}.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
        if not 0 < self.soft_bins < math.inf:
            raise ValueError(f"soft_bins must be finite and above 0, got {self.soft_bins}")
        for name in ("learning_rate", "weight_decay", "landmark_weight", "proprio_noise"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {value}")
        for name in ("average", "brightness"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {value}")

"""The optimiser of every training run: AdamW with warm-up and a cosine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


def make_optimizer(
    parameters: Sequence[nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float,
    warmup_steps: int,
    steps: int,
) -> tuple[torch.optim.AdamW, LambdaLR]:
    """Makes the optimiser and its schedule.

    Args:
        parameters: What is trained.
        learning_rate: Peak of the schedule.
        weight_decay: Of matrices; norms and biases have none.
        warmup_steps: Steps of linear warm-up.
        steps: Steps of the whole run; the rate ends at 2% of its peak.
    """

    def rate(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min((step - warmup_steps) / max(steps - warmup_steps, 1), 1.0)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))

    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1]},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=learning_rate,
        betas=(0.9, 0.95),
        weight_decay=0.0,
    )
    return optimizer, LambdaLR(optimizer, rate)

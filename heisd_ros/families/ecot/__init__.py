"""ECoT: OpenVLA v0.1 that writes its reasoning before it acts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heisd_ros.families.openvla import answers
from heisd_ros.vla.token_model import TokenModel

MODEL_TYPES = ("openvla",)


def recognises(config: Mapping[str, Any]) -> bool:
    """Implements `Family.recognises`: OpenVLA v0.1's one tower, or `own`'s answers in words."""
    fused = config.get("use_fused_vision_backbone", True)
    return config.get("model_type") in MODEL_TYPES and (
        fused is False or answers(config) == "reasoning"
    )


def protocol(config: Mapping[str, Any]) -> str:
    """Implements `Family.protocol`: no data convention unless one is named."""
    return "heisd"


def statistics(folder: str | Path) -> list[str]:
    """Implements `Family.statistics`."""
    from heisd_ros.families.openvla.checkpoint import statistics_of

    return statistics_of(folder)


def load(*arguments: Any, **options: Any) -> TokenModel:
    """Implements `Family.load`."""
    from heisd_ros.families.ecot.checkpoint import load_checkpoint

    return load_checkpoint(*arguments, **options)

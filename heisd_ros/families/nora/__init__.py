"""NORA: Qwen2.5-VL that writes actions, one or a chunk, as FAST tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heisd_ros.vla.token_model import TokenModel

MODEL_TYPES = ("qwen2_5_vl",)


def recognises(config: Mapping[str, Any]) -> bool:
    """Implements `Family.recognises`."""
    return config.get("model_type") in MODEL_TYPES


def protocol(config: Mapping[str, Any]) -> str:
    """Implements `Family.protocol`: no data convention unless one is named."""
    return "heisd"


def statistics(folder: str | Path) -> list[str]:
    """Implements `Family.statistics`."""
    from heisd_ros.families.nora.checkpoint import statistics_of

    return statistics_of(folder)


def load(*arguments: Any, **options: Any) -> TokenModel:
    """Implements `Family.load`."""
    from heisd_ros.families.nora.checkpoint import load_checkpoint

    return load_checkpoint(*arguments, **options)

"""NORA: Qwen2.5-VL that writes actions, one or a chunk, as FAST tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heisd_ros.vla.token_model import TokenModel

MODEL_TYPES = ("qwen2_5_vl",)


def recognises(config: Mapping[str, Any]) -> bool:
    """As `Family.recognises`."""
    return config.get("model_type") in MODEL_TYPES


def protocol(config: Mapping[str, Any]) -> str:
    """As `Family.protocol`: nothing stands between model and environment unless it is named."""
    return "heisd"


def load(*arguments: Any, **options: Any) -> TokenModel:
    """As `Family.load`."""
    from heisd_ros.families.nora.checkpoint import load_checkpoint

    return load_checkpoint(*arguments, **options)

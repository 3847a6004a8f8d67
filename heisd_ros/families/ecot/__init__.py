"""ECoT: OpenVLA v0.1 that writes its reasoning down before it acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heisd_ros.vla.token_model import TokenModel

MODEL_TYPES = ("openvla",)


def recognises(config: Mapping[str, Any]) -> bool:
    """As `Family.recognises`: the layout of OpenVLA v0.1, one tower and Vicuna."""
    fused = config.get("use_fused_vision_backbone", True)
    return config.get("model_type") in MODEL_TYPES and fused is False


def protocol(config: Mapping[str, Any]) -> str:
    """As `Family.protocol`: nothing stands between model and environment unless it is named."""
    return "heisd"


def load(*arguments: Any, **options: Any) -> TokenModel:
    """As `Family.load`."""
    from heisd_ros.families.ecot.checkpoint import load_checkpoint

    return load_checkpoint(*arguments, **options)

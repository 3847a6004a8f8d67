"""OpenVLA and its fine-tunes, and the small models of its architecture that are trained here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from heisd_ros.vla.token_model import TokenModel

MODEL_TYPES = ("openvla",)


def recognises(config: Mapping[str, Any]) -> bool:
    """Implements `Family.recognises`; one tower, or answers in words, is `ecot`'s."""
    known = config.get("model_type", "openvla") in MODEL_TYPES and "type" not in config
    fused = config.get("use_fused_vision_backbone") is not False
    return known and fused and answers(config) == "action"


def answers(config: Mapping[str, Any]) -> Literal["action", "reasoning", "chunk"]:
    """How a model of this architecture answers, by its ``config.json``.

    An action in bins; a reasoning and then such an action (`ecot`'s small models); or a chunk of
    actions in FAST tokens (`pi0fast`'s).
    """
    ours = config.get("heisd")
    if not isinstance(ours, Mapping):
        return "action"
    if ours.get("horizon") is not None:
        return "chunk"
    return "action" if ours.get("max_tokens") is None else "reasoning"


def protocol(config: Mapping[str, Any]) -> str:
    """Implements `Family.protocol`: ours, or for a checkpoint in OpenVLA's own layout its own."""
    ours = config.get("heisd")
    # Upstream's folder may have our values, such as the control rate, but only ours list towers.
    return "heisd" if isinstance(ours, Mapping) and "towers" in ours else "openvla_libero"


def statistics(folder: str | Path) -> list[str]:
    """Implements `Family.statistics`."""
    from heisd_ros.families.openvla.checkpoint import statistics_of

    return statistics_of(folder)


def load(*arguments: Any, **options: Any) -> TokenModel:
    """Implements `Family.load`."""
    from heisd_ros.families.openvla.checkpoint import load_checkpoint

    return load_checkpoint(*arguments, **options)

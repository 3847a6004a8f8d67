"""pi0-FAST as LeRobot saves it: PaliGemma that writes chunks of actions as FAST tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heisd_ros.vla.token_model import TokenModel

MODEL_TYPES = ("pi0_fast",)


def recognises(config: Mapping[str, Any]) -> bool:
    """Implements `Family.recognises`, LeRobot's name for it."""
    return config.get("type") in MODEL_TYPES


def protocol(config: Mapping[str, Any]) -> str:
    """Implements `Family.protocol`: no data convention unless one is named."""
    return "heisd"


def statistics(folder: str | Path) -> list[str]:
    """Implements `Family.statistics`: a policy has one set, without a name."""
    return []


def load(*arguments: Any, **options: Any) -> TokenModel:
    """Implements `Family.load`."""
    from heisd_ros.families.pi0fast.checkpoint import load_checkpoint

    return load_checkpoint(*arguments, **options)

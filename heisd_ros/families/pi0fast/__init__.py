"""Chunks of actions as FAST tokens: pi0-FAST as LeRobot saves it, and the small models of `own`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heisd_ros.families.openvla import answers
from heisd_ros.files.bounded import expanded
from heisd_ros.vla.checkpoint_files import CONFIG, CheckpointFiles, read_json
from heisd_ros.vla.token_model import TokenModel

MODEL_TYPES = ("pi0_fast",)


def recognises(config: Mapping[str, Any]) -> bool:
    """Implements `Family.recognises`: LeRobot's name for it, or ``heisd.horizon`` of `own`."""
    return config.get("type") in MODEL_TYPES or _small(config)


def protocol(config: Mapping[str, Any]) -> str:
    """Implements `Family.protocol`: no data convention unless one is named."""
    return "heisd"


def statistics(folder: str | Path) -> list[str]:
    """Implements `Family.statistics`: a policy of LeRobot has one set, without a name."""
    if not _small(_config(folder)):
        return []
    from heisd_ros.families.openvla.checkpoint import statistics_of

    return statistics_of(folder)


def load(folder: str | Path, *arguments: Any, **options: Any) -> TokenModel:
    """Implements `Family.load`."""
    if _small(_config(folder)):
        from heisd_ros.families.pi0fast.own import load_own

        return load_own(folder, *arguments, **options)
    from heisd_ros.families.pi0fast.checkpoint import load_checkpoint

    return load_checkpoint(folder, *arguments, **options)


def _small(config: Mapping[str, Any]) -> bool:
    kind = config.get("model_type") == "openvla" and "type" not in config
    return kind and config.get("use_fused_vision_backbone") is True and answers(config) == "chunk"


def _config(folder: str | Path) -> dict[str, Any]:
    place = expanded(folder) / CONFIG
    # LeRobot's folder has no tokenizer beside it, and an adapter's none of its own.
    return read_json(place if place.exists() else CheckpointFiles.find(folder).config)

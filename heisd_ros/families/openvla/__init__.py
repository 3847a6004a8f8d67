"""OpenVLA and its fine-tunes, and the small models of its architecture that are trained here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heisd_ros.vla.token_model import TokenModel

if TYPE_CHECKING:
    from heisd_ros.families.reference import Reference
    from heisd_ros.families.shapes import Shape
    from heisd_ros.families.stages import Stages

MODEL_TYPES = ("openvla",)


def recognises(config: Mapping[str, Any]) -> bool:
    """Implements `Family.recognises`; one tower, or answers in words, is `ecot`'s."""
    known = config.get("model_type", "openvla") in MODEL_TYPES and "type" not in config
    return known and config.get("use_fused_vision_backbone") is not False and not reasons(config)


def reasons(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is of a small model whose answers begin with a reasoning."""
    ours = config.get("heisd")
    return isinstance(ours, Mapping) and ours.get("max_tokens") is not None


def protocol(config: Mapping[str, Any]) -> str:
    """Implements `Family.protocol`: ours, or for a checkpoint in OpenVLA's own layout its own."""
    return "heisd" if "heisd" in config else "openvla_libero"


def statistics(folder: str | Path) -> list[str]:
    """Implements `Family.statistics`."""
    from heisd_ros.families.openvla.checkpoint import statistics_of

    return statistics_of(folder)


def reference_stages(reference: Reference) -> Stages:
    """Implements `Family.reference_stages`."""
    from heisd_ros.families.openvla.stages import OpenVLAStages

    return OpenVLAStages(reference)


def bench_shapes() -> Mapping[str, Shape]:
    """Implements `Family.bench_shapes`."""
    from heisd_ros.families.openvla.shapes import SHAPES

    return SHAPES


def load(*arguments: Any, **options: Any) -> TokenModel:
    """Implements `Family.load`."""
    from heisd_ros.families.openvla.checkpoint import load_checkpoint

    return load_checkpoint(*arguments, **options)

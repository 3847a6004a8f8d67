"""pi0-FAST as LeRobot saves it: PaliGemma that writes chunks of actions as FAST tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heisd_ros.vla.token_model import TokenModel

if TYPE_CHECKING:
    from heisd_ros.families.reference import Reference
    from heisd_ros.families.shapes import Shape
    from heisd_ros.families.stages import Stages

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


def reference_stages(reference: Reference) -> Stages:
    """Implements `Family.reference_stages`."""
    from heisd_ros.families.pi0fast.stages import Pi0FastStages

    return Pi0FastStages(reference)


def bench_shapes() -> Mapping[str, Shape]:
    """Implements `Family.bench_shapes`."""
    from heisd_ros.families.pi0fast.shapes import SHAPES

    return SHAPES


def load(*arguments: Any, **options: Any) -> TokenModel:
    """Implements `Family.load`."""
    from heisd_ros.families.pi0fast.checkpoint import load_checkpoint

    return load_checkpoint(*arguments, **options)

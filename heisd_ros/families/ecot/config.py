"""Configuration of ECoT: OpenVLA v0.1's ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heisd_ros.families.openvla.config import ACTION_BINS, FIXED_TEXT, language_of
from heisd_ros.families.openvla.tower_config import TowerConfig, timm_tower
from heisd_ros.files.bounded import shown
from heisd_ros.files.checks import reject_unknown, require, require_fixed, require_whole
from heisd_ros.files.typed import typed
from heisd_ros.vla.action_codec import MOST_TOKENS
from heisd_ros.vla.language_config import LanguageConfig

PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: What action should the "
    "robot take to {instruction}? ASSISTANT: TASK:"
)
"""``TASK:`` is part of it: it makes the model begin with its reasoning."""
MAX_TOKENS = 1024
"""Tokens of an answer, at most, as upstream asks for."""

_FIXED: dict[str, tuple[Any, ...]] = {
    "arch_specifier": ("no-align+gelu-mlp",),
    "image_resize_strategy": ("letterbox",),
    "llm_backbone_id": ("vicuna-v15-7b",),
    "n_action_bins": (ACTION_BINS,),
    "use_fused_vision_backbone": (False,),
    "timm_override_act_layers": ([None],),
}


@dataclass(frozen=True)
class EcotConfig:
    """The whole model.

    Attributes:
        tower: the vision tower.
        language: the Llama decoder.
        pad_to_multiple_of: padding rows of the vocabulary, behind the action tokens.
        fill: grey level that a picture is padded with.
        max_tokens: tokens of an answer, at most.
        control_rate_hz: rate at which the policy was demonstrated, Hz (None: unknown).
    """

    tower: TowerConfig
    language: LanguageConfig
    pad_to_multiple_of: int = 64
    fill: tuple[int, int, int] = (127, 127, 127)
    max_tokens: int = MAX_TOKENS
    control_rate_hz: float | None = None

    def __post_init__(self) -> None:
        require_whole("pad_to_multiple_of", self.pad_to_multiple_of, least=0)
        require(
            all(0 <= grey <= 255 for grey in self.fill),
            f"tvf_letterbox_fill is {self.fill}; three numbers from 0 to 255",
        )
        require(
            self.real_vocab_size > ACTION_BINS,
            f"vocab_size {self.language.vocab_size} leaves {self.real_vocab_size} ids; more than "
            f"{ACTION_BINS} action ids are needed",
        )
        require(
            0 < self.max_tokens <= MOST_TOKENS
            and self.max_tokens < self.language.max_position_embeddings - self.tower.tokens,
            f"max_tokens is {self.max_tokens}; above 0, up to {MOST_TOKENS}, and below "
            f"{self.language.max_position_embeddings - self.tower.tokens}, the positions that the "
            "picture leaves",
        )

    @property
    def real_vocab_size(self) -> int:
        """Ids that mean something; the last 256 of them are the action tokens."""
        return self.language.vocab_size - self.pad_to_multiple_of

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> EcotConfig:
        """Reads a ``config.json``; the section ``heisd`` holds what no file of upstream says.

        Args:
            config: the parsed file.
            preprocessor: the parsed ``preprocessor_config.json``.

        Raises:
            ValueError: naming what is unknown, missing or out of range.
        """
        text = typed(dict[str, Any], config.get("text_config", {}), "text_config")
        require_fixed(config, _FIXED)
        require_fixed(text, FIXED_TEXT)
        require(
            preprocessor.get("tvf_do_letterbox", True) is True,
            f"tvf_do_letterbox is {shown(preprocessor.get('tvf_do_letterbox'))}; only true",
        )
        ours = typed(dict[str, Any], config.get("heisd", {}), "heisd")
        reject_unknown("heisd", ours, {"max_tokens", "control_rate_hz"})
        (timm_id,) = typed(tuple[str], config.get("timm_model_ids"), "timm_model_ids")
        (size,) = typed(tuple[int], config.get("image_sizes", [224]), "image_sizes")
        (override,) = typed(
            tuple[dict[str, int | float]], config.get("timm_tiny_kwargs", [{}]), "timm_tiny_kwargs"
        )
        hints = {"max_tokens": int, "control_rate_hz": float | None}
        colour = typed(
            tuple[int, int, int], preprocessor.get("tvf_letterbox_fill", [127] * 3), "fill"
        )
        return cls(
            tower=timm_tower(timm_id, override, size, preprocessor),
            language=language_of(text),
            pad_to_multiple_of=typed(int, config.get("pad_to_multiple_of", 64), "pad_to"),
            fill=colour,
            **{key: typed(hints[key], value, f"heisd.{key}") for key, value in ours.items()},
        )

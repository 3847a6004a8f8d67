"""Configuration of the vision-language-action model: every size comes from here.

`VLAConfig.from_dict` reads OpenVLA's own ``config.json`` as it is, and ours, which is the same file
with extra keys under ``"heisd"``. `VLAConfig.to_dict` writes a file that both can read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_type_hints

from heisd_ros.families.openvla.tower_config import TowerConfig, timm_towers, written_towers
from heisd_ros.files.bounded import shown
from heisd_ros.files.checks import (
    reject_unknown,
    require,
    require_fixed,
    require_template,
    require_whole,
)
from heisd_ros.files.typed import typed
from heisd_ros.vla.action_codec import MOST_ACTIONS, MOST_TOKENS
from heisd_ros.vla.language_config import MOST_WIDTH, LanguageConfig

OPENVLA_PROMPT = "In: What action should the robot take to {instruction}?\nOut:"
OPENVLA_EMPTY_TOKEN = 29871  # Llama-2's U+2581, which OpenVLA appends to every prompt.
ACTION_DIMENSIONS = 7  # dx dy dz, drx dry drz, gripper
ACTION_BINS = 256
MOST_VIEWS = 16
"""Camera views, at most."""


@dataclass(frozen=True)
class VLAConfig:
    """The whole model.

    Attributes:
        towers: two vision towers, whose patches are concatenated channel-wise.
        language: the Llama decoder.
        pad_to_multiple_of: padding rows of the vocabulary, as upstream subtracts them: the real
            vocabulary has ``language.vocab_size - pad_to_multiple_of`` ids, and the last 256 of
            those are the action tokens.
        pad_token_id: id of ``<PAD>``.
        projector_width: hidden width of the projector's first layer (None: OpenVLA's 4 x vision).
        views: names of the camera views, in the order in which images are given.
        proprio_size: numbers in the proprioception vector; 0, as in OpenVLA: no such token.
        control_rate_hz: rate at which the policy was demonstrated, Hz (None: unknown).
        prompt: template with ``{instruction}``, which is lower-cased.
        prompt_suffix: token ids that end every prompt (appended unless already there).
        instructions: the instructions that the model was trained on (None: any is accepted).
        max_tokens: tokens of an answer that begins with a reasoning, at most (None: an answer has
            none).
        horizon: actions of an answer that is a chunk in FAST tokens (None: an answer has one).
    """

    towers: tuple[TowerConfig, TowerConfig]
    language: LanguageConfig
    pad_to_multiple_of: int = 64
    pad_token_id: int = 32000
    projector_width: int | None = None
    views: tuple[str, ...] = ("image",)
    proprio_size: int = 0
    control_rate_hz: float | None = None
    prompt: str = OPENVLA_PROMPT
    prompt_suffix: tuple[int, ...] = ()
    instructions: tuple[str, ...] | None = None
    max_tokens: int | None = None
    horizon: int | None = None

    def __post_init__(self) -> None:
        require(len(self.towers) == 2, f"{len(self.towers)} towers; exactly 2")
        first = self.towers[0]
        for tower in self.towers:
            require(
                (tower.image_size, tower.tokens) == (first.image_size, first.tokens),
                f"towers differ: {tower.image_size} px and {tower.tokens} tokens against "
                f"{first.image_size} px and {first.tokens} tokens; both must agree",
            )
        require_whole("pad_to_multiple_of", self.pad_to_multiple_of, least=0)
        require_whole("proprio_size", self.proprio_size, least=0, most=MOST_WIDTH)
        if self.projector_width is not None:
            require_whole("projector_width", self.projector_width, most=MOST_WIDTH)
        require(
            self.real_vocab_size > ACTION_BINS,
            f"vocab_size {self.language.vocab_size} less {self.pad_to_multiple_of} padding rows "
            f"leaves {self.real_vocab_size} ids; more than {ACTION_BINS} action ids are needed",
        )
        require(
            0 <= self.pad_token_id < self.language.vocab_size,
            f"pad_token_id {self.pad_token_id} is outside the {self.language.vocab_size} ids",
        )
        require(
            0 < len(self.views) <= MOST_VIEWS and len(set(self.views)) == len(self.views),
            f"views are {shown(self.views)}; one or more different names, {MOST_VIEWS} at most",
        )
        require(
            self.control_rate_hz is None or self.control_rate_hz > 0,
            f"control_rate_hz is {self.control_rate_hz}; above 0 or null",
        )
        room = self.language.max_position_embeddings - self.prefix_tokens
        if self.max_tokens is not None:
            require_whole("max_tokens", self.max_tokens, most=min(room, MOST_TOKENS))
        if self.horizon is not None:
            require_whole("horizon", self.horizon, most=MOST_ACTIONS)
            require(self.max_tokens is None, "a chunk of actions (horizon) has no max_tokens")
        require(
            self.longest_text >= 0,
            f"max_position_embeddings {self.language.max_position_embeddings} leaves {room} "
            f"positions for an answer; {self._longest_answer} are needed",
        )
        require(self.instructions != (), "instructions is empty; name some, or null for any")
        require("{instruction}" in self.prompt, f"prompt {self.prompt!r} lacks '{{instruction}}'")
        require_template("prompt", self.prompt, "instruction")

    @property
    def image_size(self) -> int:
        """Side of the square image that every tower takes, pixels."""
        return self.towers[0].image_size

    @property
    def visual_tokens(self) -> int:
        """Visual tokens of all views together."""
        return len(self.views) * self.towers[0].tokens

    @property
    def prefix_tokens(self) -> int:
        """Tokens between BOS and the text: visual, then proprioception if the model takes it."""
        return self.visual_tokens + (1 if self.proprio_size else 0)

    @property
    def longest_text(self) -> int:
        """Ids of the text, BOS included, for which pictures, state and answer leave positions."""
        taken = self.prefix_tokens + self._longest_answer
        return self.language.max_position_embeddings - taken

    @property
    def _longest_answer(self) -> int:
        return self.max_tokens or ACTION_DIMENSIONS * (self.horizon or 1)

    @property
    def vision_width(self) -> int:
        """Channels of a visual token before the projector."""
        return sum(tower.output_width for tower in self.towers)

    @property
    def real_vocab_size(self) -> int:
        """Ids that mean something; the last 256 of them are the action tokens."""
        return self.language.vocab_size - self.pad_to_multiple_of

    @classmethod
    def from_dict(
        cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any] | None = None
    ) -> VLAConfig:
        """Read a ``config.json``, OpenVLA's or ours.

        Args:
            config: the parsed ``config.json``.
            preprocessor: the parsed ``preprocessor_config.json``; its normalisation constants win.

        Raises:
            ValueError: naming what is unknown, missing or out of range.
        """
        _refuse_v01(config)
        for key in _HEAD_KEYS:
            require(
                not config.get(key),
                f"{key} is {shown(config.get(key))}; a model with such a head or input does not "
                "run here, only OpenVLA and its fine-tunes, whose actions are tokens",
            )
        require_fixed(config, _FIXED_KEYS)
        text = typed(dict[str, Any], config.get("text_config", {}), "text_config")
        require_fixed(text, FIXED_TEXT)
        ours = dict(typed(dict[str, Any], config.get("heisd", {}), "heisd"))
        towers = ours.pop("towers", None)
        hints = get_type_hints(cls)
        own_fields = {field.name for field in dataclasses.fields(cls)}
        own_fields -= {"towers", "language", "pad_to_multiple_of", "pad_token_id"}
        reject_unknown("heisd", ours, own_fields)
        given = {key: typed(hints[key], value, f"heisd.{key}") for key, value in ours.items()}
        if not {"prompt", "prompt_suffix"} & ours.keys():  # of OpenVLA's own, with values of ours
            given["prompt_suffix"] = (OPENVLA_EMPTY_TOKEN,)
        for key in ("pad_to_multiple_of", "pad_token_id"):
            if key in config:
                given[key] = typed(int, config[key], key)
        return cls(
            towers=written_towers(towers) if towers else timm_towers(config, preprocessor or {}),
            language=language_of(text),
            **given,
        )

    def to_dict(self) -> dict[str, Any]:
        """The ``config.json`` of this model, without its ``norm_stats``."""
        ours = dataclasses.asdict(self)
        top = {key: ours.pop(key) for key in ("pad_to_multiple_of", "pad_token_id")}
        text = ours.pop("language")
        return {
            "model_type": "openvla",
            "arch_specifier": "no-align+fused-gelu-mlp",
            "image_resize_strategy": "resize-naive",
            "image_sizes": [self.image_size] * 2,
            "n_action_bins": ACTION_BINS,
            "use_fused_vision_backbone": True,
            **top,
            "text_config": {**text, "model_type": "llama", "pad_token_id": self.pad_token_id},
            "heisd": ours,
        }


_HEAD_KEYS = (
    *("action_model_type", "action_head", "action_head_type", "use_l1_regression"),
    *("use_diffusion", "use_film", "use_proprio"),
)
"""What configs of fine-tunes call a head, or an input, that OpenVLA has not."""

# What this implementation does in one way only; another value in a config is an error, not a guess.
_FIXED_KEYS: dict[str, tuple[Any, ...]] = {
    "model_type": ("openvla",),
    "arch_specifier": ("no-align+fused-gelu-mlp",),
    "image_resize_strategy": ("resize-naive",),
    "n_action_bins": (ACTION_BINS,),
    "use_fused_vision_backbone": (True, None),
    "timm_override_act_layers": ([None, None],),
}
FIXED_TEXT: dict[str, tuple[Any, ...]] = {
    "model_type": ("llama",),
    "hidden_act": ("silu",),
    "rope_scaling": (None,),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "tie_word_embeddings": (False,),
}


def language_of(text: Mapping[str, Any]) -> LanguageConfig:
    """Reads a ``text_config``; transformers 5 writes the base of the rotation apart.

    Raises:
        ValueError: naming what is of another type, out of range, or not implemented.
    """
    rope = typed(dict[str, Any], text.get("rope_parameters") or {}, "rope_parameters")
    reject_unknown("rope_parameters", rope, {"rope_theta", "rope_type"})
    kind = rope.pop("rope_type", "default")
    require(kind == "default", f"rope_type is {shown(kind)}; accepted: 'default'")
    known = {field.name for field in dataclasses.fields(LanguageConfig)}
    language = {key: value for key, value in text.items() if key in known}
    return cast(LanguageConfig, typed(LanguageConfig, {**language, **rope}, "text_config"))


def _refuse_v01(config: Mapping[str, Any]) -> None:
    """OpenVLA v0.1 is another network behind another prompt; its config is told by either."""
    llm = str(config.get("llm_backbone_id") or "")
    vicuna = llm.startswith("vicuna")
    require(
        not vicuna and config.get("use_fused_vision_backbone") is not False,
        "OpenVLA v0.1 (one SigLIP tower, Vicuna's chat prompt) is not supported; openvla-7b and "
        "its fine-tunes are (two towers, prompt 'In: What action ...')",
    )
    require(
        not llm or llm.endswith("-pure"),
        f"llm_backbone_id is {llm!r}, whose prompt is another; only '...-pure', as "
        "'llama2-7b-pure'",
    )

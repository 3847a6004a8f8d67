"""Sizes of a Llama decoder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from heisd_ros.files.checks import require, require_whole

MOST_LAYERS = 512
"""Greatest number of layers: Llama-2-7B has 32. A module is made for each."""
MOST_WIDTH = 1 << 18
"""Greatest width of a layer: Llama-2-7B's widest have 11,008."""
_MOST_TOKENS = 1 << 20
_MOST_POSITIONS = 1 << 17
"""Greatest number of positions; Llama-2 has 4,096. A table is made of them."""


@dataclass(frozen=True)
class LanguageConfig:
    """The Llama decoder. Defaults are Llama-2-7B's, on which a ``text_config`` may rely.

    Attributes:
        vocab_size: rows of the embedding and of the LM head, padding rows included.
        hidden_size: width of the residual stream.
        intermediate_size: width of the gated MLP.
        num_hidden_layers: decoder layers.
        num_attention_heads: query heads.
        num_key_value_heads: key and value heads (None: as many as query heads).
        rms_norm_eps: RMSNorm epsilon (LlamaConfig's default where ``config.json`` is silent).
        rope_theta: base of the rotary frequencies.
        max_position_embeddings: longest sequence.
    """

    vocab_size: int = 32064
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 2048

    def __post_init__(self) -> None:
        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", self.num_attention_heads)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("rms_norm_eps", "rope_theta"):
                require(value > 0, f"text_config {field.name} is {value}; above 0")
            else:
                most = {"vocab_size": _MOST_TOKENS, "num_hidden_layers": MOST_LAYERS}
                most["max_position_embeddings"] = _MOST_POSITIONS
                most_here = most.get(field.name, MOST_WIDTH)
                require_whole(f"text_config {field.name}", value, most=most_here)
        require(
            self.hidden_size % (2 * self.num_attention_heads) == 0,
            f"text_config hidden_size {self.hidden_size} must divide into "
            f"{self.num_attention_heads} heads of even width",
        )
        require(
            self.num_attention_heads % self.key_value_heads == 0,
            f"text_config num_attention_heads {self.num_attention_heads} is no multiple of "
            f"num_key_value_heads {self.num_key_value_heads}",
        )

    @property
    def key_value_heads(self) -> int:
        """Number of key and value heads, with the default resolved."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_width(self) -> int:
        """Number of channels of one attention head."""
        return self.hidden_size // self.num_attention_heads

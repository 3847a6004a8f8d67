"""ECoT's network: SigLIP, a projector of two layers and a Llama decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heisd_ros.families.ecot.config import EcotConfig
from heisd_ros.families.openvla.vision import VisionTower
from heisd_ros.vla.action_codec import AnswerFormat
from heisd_ros.vla.llama import LanguageModel
from heisd_ros.vla.packed_linear import PackedLinear, pack


class Backbone(nn.Module):
    """The one tower, under the name that a checkpoint has it by."""

    def __init__(self, config: EcotConfig) -> None:
        super().__init__()
        self.featurizer = VisionTower(config.tower)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [B, 3, S, S] -> visual features [B, N, D]."""
        return self.featurizer(pixels)


class Projector(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, config: EcotConfig) -> None:
        super().__init__()
        width = config.language.hidden_size
        self.fc1 = PackedLinear(config.tower.output_width, width)
        self.fc2 = PackedLinear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, hidden]."""
        return self.fc2(self.fc1.gelu(features))


class EcotNetwork(nn.Module):
    """As `engine.Network`. Parameter names are those of the checkpoint.

    Args:
        config: sizes.
        answer: how its answers are written.
    """

    def __init__(self, config: EcotConfig, answer: AnswerFormat) -> None:
        super().__init__()
        self.config, self.answer = config, answer
        self.vision_backbone = Backbone(config)
        self.projector = Projector(config)
        self.language_model = LanguageModel(config.language)

    @property
    def prefix_columns(self) -> int:
        """Columns of a prompt between BOS and the text."""
        return self.config.tower.tokens

    def arrange_for_cpu(self) -> None:
        """Lays the weights out as a CPU multiplies them fastest; shapes, names and results stay."""
        self.language_model.store_columns()
        pack(self)

    def embed(self, ids: Tensor, visual_tokens: Tensor) -> Tensor:
        """Ids [1, T], BOS first, and visual tokens [1, N, hidden] -> columns [1, T + N, hidden]."""
        text = self.language_model.embed_tokens(ids)
        return torch.cat([text[:, :1], visual_tokens.to(text.dtype), text[:, 1:]], dim=1)

    def unused_prefixes(self) -> tuple[str, ...]:
        """Names that a checkpoint may hold and this network never reads."""
        below = self.vision_backbone.featurizer.unused_prefixes()
        return tuple(f"vision_backbone.featurizer.{name}" for name in below)

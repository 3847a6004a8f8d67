"""The vision side: two ViT towers, their patches concatenated, and the projector.

Module and parameter names are those of timm and of OpenVLA's checkpoint
(``vision_backbone.featurizer.blocks.0.attn.qkv.weight``, ``ls1.scale_factor``, ...). What a
checkpoint holds but OpenVLA never runs (blocks after the output block, the last norm, SigLIP's
attention pool) is not built here; see `VisionTower.unused_prefixes`.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.tower_config import TowerConfig
from heisd_ros.vla.packed_linear import PackedLinear

LAYER_NORM_EPS = 1e-6


class PatchStem(nn.Module):
    """One convolution that turns each patch into a vector (``patch_embed`` of timm)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, grid * grid, width], row by row."""
        return self.proj(pixels).flatten(2).transpose(1, 2)


class ConvStem(nn.Module):
    """3x3 convolutions of stride 2, doubling in width up to the tower's.

    Small ViTs learn faster with it than with one large patch (Xiao et al. 2021, "Early
    convolutions help transformers see better"). GroupNorm behaves the same at any batch size.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        halvings = config.patch_size.bit_length() - 1
        layers: list[nn.Module] = []
        channels = 3
        for remaining in range(halvings - 1, -1, -1):
            width = max(16, config.width >> remaining) if remaining else config.width
            layers.append(nn.Conv2d(channels, width, 3, stride=2, padding=1))
            if remaining:
                layers += [nn.GroupNorm(1, width), nn.GELU()]
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, grid * grid, width], row by row."""
        return self.layers(pixels).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Bidirectional self-attention with a fused query-key-value projection."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = PackedLinear(config.width, 3 * config.width)
        self.proj = PackedLinear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, width] -> [B, N, width]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = PackedLinear(width, hidden)
        self.fc2 = PackedLinear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return self.fc2(self.fc1.gelu(x))


class LayerScale(nn.Module):
    """A learnt factor per channel; OpenVLA renamed timm's ``gamma`` to ``scale_factor``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return x * self.scale_factor


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(config.width, config.mlp_width)
        self.ls1 = LayerScale(config.width) if config.layer_scale else nn.Identity()
        self.ls2 = LayerScale(config.width) if config.layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, width] -> [B, N, width]."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


def _learnt(tokens: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(1, tokens, width), std=0.02))


class VisionTower(nn.Module):
    """One ViT, up to the block whose output is the feature."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = ConvStem(config) if config.stem == "conv" else PatchStem(config)
        self.pos_embed = _learnt(config.grid**2, config.width)
        if config.class_token:
            self.cls_token = _learnt(1, config.width)
        if config.registers:
            self.reg_token = _learnt(config.registers, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks_run))
        if config.final_norm:
            self.norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [B, 3, S, S] -> patch features [B, tokens, output_width]."""
        # Positions belong to patches only; class token and registers come first, without one.
        x = self.patch_embed(pixels) + self.pos_embed
        if self.config.registers:
            x = torch.cat([self.reg_token.expand(len(x), -1, -1), x], dim=1)
        if self.config.class_token:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = x[:, int(self.config.class_token) + self.config.registers :]
        if self.config.final_norm:
            x = self.norm(x)
        return pixel_shuffle(x, self.config.grid, self.config.pixel_shuffle)

    def unused_prefixes(self) -> tuple[str, ...]:
        """Names below this tower that a checkpoint may hold and this model never reads."""
        skipped = range(self.config.blocks_run, self.config.depth)
        norm = () if self.config.final_norm else ("norm.",)
        return ("attn_pool.", *norm, *(f"blocks.{i}." for i in skipped))


def pixel_shuffle(x: Tensor, grid: int, r: int) -> Tensor:
    """Fold r x r neighbouring patches into channels: [B, grid^2, W] -> [B, (grid/r)^2, W r^2]."""
    if r == 1:
        return x
    x = x.unflatten(1, (grid // r, r, grid // r, r))  # rows, r, columns, r
    return x.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)


class VisionBackbone(nn.Module):
    """Both towers on every camera view."""

    def __init__(self, config: VLAConfig) -> None:
        super().__init__()
        self.featurizer = VisionTower(config.towers[0])
        self.fused_featurizer = VisionTower(config.towers[1])

    def forward(self, pixels: Tensor) -> Tensor:
        """Visual features of all views.

        Args:
            pixels: [B, V, 6, S, S], per view the image normalised for each of the two towers.

        Returns:
            [B, V * N, D]: view by view, the channels of both towers concatenated.
        """
        batch, views = pixels.shape[:2]
        first, second = pixels.flatten(0, 1).split(3, dim=1)
        beside = pixels.is_cuda and torch.is_inference_mode_enabled()
        if not beside or torch.compiler.is_compiling():  # which orders what runs on streams itself
            towers = [self.featurizer(first), self.fused_featurizer(second)]
        else:
            # Beside each other: a few hundred patches leave a large GPU half idle.
            here, side = torch.cuda.current_stream(pixels.device), _side_stream(pixels.device)
            side.wait_stream(here)
            with torch.cuda.stream(side):
                fused = self.fused_featurizer(second)
            towers = [self.featurizer(first), fused]
            here.wait_stream(side)
        features = torch.cat(towers, dim=-1)
        return features.unflatten(0, (batch, views)).flatten(1, 2)

    def unused_prefixes(self) -> tuple[str, ...]:
        """Names that a checkpoint may hold and this model never reads."""
        towers = {"featurizer": self.featurizer, "fused_featurizer": self.fused_featurizer}
        return tuple(
            f"vision_backbone.{name}.{prefix}"
            for name, tower in towers.items()
            for prefix in tower.unused_prefixes()
        )


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of a device's second tower."""
    return torch.cuda.Stream(device)


class Projector(nn.Module):
    """OpenVLA's three-layer GELU MLP from visual features to the language model's width."""

    def __init__(self, config: VLAConfig) -> None:
        super().__init__()
        hidden = config.projector_width or 4 * config.vision_width
        width = config.language.hidden_size
        self.fc1 = PackedLinear(config.vision_width, hidden)
        self.fc2 = PackedLinear(hidden, width)
        self.fc3 = PackedLinear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, hidden_size]."""
        return self.fc3(self.fc2.gelu(self.fc1.gelu(features)))


class ProprioProjector(nn.Module):
    """A proprioception vector as one token; it normalises with its own mean and deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.fc1 = nn.Linear(size, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, proprio: Tensor) -> Tensor:
        """[B, P], in the units of the demonstrations -> [B, 1, width]."""
        normalised = (proprio - self.mean) / self.std
        return self.fc2(F.gelu(self.fc1(normalised))).unsqueeze(1)

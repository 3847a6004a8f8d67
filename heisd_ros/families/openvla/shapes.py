"""Shapes of OpenVLA's architecture, for `heisd bench decode`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE

from heisd_ros.families.openvla.action_tokens import ActionStatistics
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.network import OpenVLAInputs, VLAModel
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.families.shapes import Shape, Whole, fill, noise
from heisd_ros.vla.language_config import LanguageConfig

TEXT_TOKENS = 24
"""Length of a random prompt, BOS included: about that of LIBERO's instructions in OpenVLA."""

_TIMM_IDS = ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"]
_MINI_TOWER = {"embed_dim": 64, "depth": 4, "num_heads": 4, "mlp_ratio": 4.0}


def openvla_config() -> VLAConfig:
    """Returns the config of OpenVLA-7B, as in its ``config.json``."""
    return VLAConfig.from_dict({"timm_model_ids": _TIMM_IDS})


def mini_config() -> VLAConfig:
    """Returns a config with OpenVLA's columns, patches and vocabulary, but few narrow layers."""
    config = VLAConfig.from_dict(
        {"timm_model_ids": _TIMM_IDS, "timm_tiny_kwargs": [_MINI_TOWER] * 2}
    )
    language = LanguageConfig(
        hidden_size=256, intermediate_size=688, num_hidden_layers=8, num_attention_heads=8
    )
    return replace(config, language=language)


def random_model(config: VLAConfig, device: torch.device, dtype: torch.dtype) -> VLAModel:
    """Returns a model with random weights, drawn on the device without a copy on the host."""
    with torch.device("meta"):
        model = VLAModel(config).to(dtype)
    fill(model, device)
    if device.type == "cpu":
        model.arrange_for_cpu()
    return model.requires_grad_(False)


def _random(config: Callable[[], VLAConfig]) -> Whole:
    def make(
        device: torch.device, dtype: torch.dtype
    ) -> tuple[VLA, Callable[[int], OpenVLAInputs]]:
        sizes = config()
        model = random_model(sizes, device, dtype)
        count = model.answer.max_tokens
        statistics = {"random": ActionStatistics((-1.0,) * count, (1.0,) * count)}
        ids = torch.arange(1, TEXT_TOKENS + 1, device=device).unsqueeze(0)
        shape = (1, len(sizes.views), 6, sizes.image_size, sizes.image_size)

        def inputs(seed: int) -> OpenVLAInputs:
            return OpenVLAInputs(noise(*shape, device=device, dtype=dtype, seed=seed), ids)

        return VLA(model, Tokenizer(BPE()), statistics), inputs

    return Whole(make)


SHAPES: dict[str, Shape] = {"openvla-7b": _random(openvla_config), "mini": _random(mini_config)}

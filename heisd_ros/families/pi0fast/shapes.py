"""The shape of the published pi0-FAST, for `heisd bench decode`."""

from __future__ import annotations

import torch

from heisd_ros.families.pi0fast.config import Pi0FastConfig, TextSizes
from heisd_ros.families.shapes import (
    Passes,
    Published,
    Shape,
    library_engine,
    library_network,
    noise,
)
from heisd_ros.vla.engine import Prompt


def _pi0_fast(layers: int, tokens: int, device: torch.device, dtype: torch.dtype) -> Passes:
    """Makes pi0-FAST: PaliGemma of 3B, two cameras."""
    from transformers import PaliGemmaForConditionalGeneration

    from heisd_ros.families.pi0fast.checkpoint import library_config

    cameras, text = ("base", "wrist"), 60
    config = Pi0FastConfig(cameras, 8, 7, 10, 224, text=TextSizes(depth=layers))
    library = library_config(config, 257152)
    network = library_network(PaliGemmaForConditionalGeneration, library, device, dtype)
    pixels = noise(len(cameras), 3, 224, 224, device=device, dtype=dtype)
    columns = len(cameras) * (224 // config.vision.patch_size) ** 2 + text
    every = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
    prompt = Prompt(noise(1, columns, config.text.width, device=device, dtype=dtype), mask=every)
    tower = network.model.vision_tower
    return Passes(lambda: tower(pixels).last_hidden_state, library_engine(network, tokens), prompt)


SHAPES: dict[str, Shape] = {"pi0-fast": Published(18, 30, _pi0_fast)}

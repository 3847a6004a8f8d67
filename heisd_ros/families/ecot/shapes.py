"""The shape of the published ECoT, for `heisd bench decode`."""

from __future__ import annotations

import torch

from heisd_ros.families.ecot.config import EcotConfig
from heisd_ros.families.ecot.network import EcotNetwork
from heisd_ros.families.openvla.tower_config import timm_tower
from heisd_ros.families.shapes import Counted, Passes, Published, Shape, fill, noise
from heisd_ros.vla.engine import PlainEngine, Prompt
from heisd_ros.vla.language_config import LanguageConfig


def _ecot(layers: int, tokens: int, device: torch.device, dtype: torch.dtype) -> Passes:
    """Makes ECoT-7B: SigLIP and Vicuna-7B."""
    language = LanguageConfig(num_hidden_layers=layers)
    tower = timm_tower("vit_so400m_patch14_siglip_224", {}, 224, {})
    config = EcotConfig(tower, language)
    with torch.device("meta"):
        network = EcotNetwork(config, Counted(tokens)).to(dtype)
    fill(network, device)
    if device.type == "cpu":
        network.arrange_for_cpu()
    columns = tower.tokens + 70  # Vicuna's system prompt, and an instruction
    pixels = noise(1, 3, 224, 224, device=device, dtype=dtype)
    prompt = Prompt(noise(1, columns, language.hidden_size, device=device, dtype=dtype))
    vision = network.requires_grad_(False).eval().vision_backbone
    return Passes(lambda: vision(pixels), PlainEngine(network), prompt)


SHAPES: dict[str, Shape] = {"ecot": Published(32, 120, _ecot)}

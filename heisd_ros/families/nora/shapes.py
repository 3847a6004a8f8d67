"""The shape of the published NORA, for `heisd bench decode`."""

from __future__ import annotations

import torch

from heisd_ros.families.nora.preprocessing import rope_positions
from heisd_ros.families.shapes import (
    Passes,
    Published,
    Shape,
    library_engine,
    library_network,
    noise,
)
from heisd_ros.vla.engine import Prompt


def _nora(layers: int, tokens: int, device: torch.device, dtype: torch.dtype) -> Passes:
    """Makes NORA: Qwen2.5-VL-3B, one picture of 224 pixels."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    width, grid, text, image = 2048, 16, 40, 151655
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 16,
            "num_key_value_heads": 2, "intermediate_size": 11008, "vocab_size": 153713,
            "max_position_embeddings": 32768,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        },
        vision_config={
            "depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420,
            "out_hidden_size": width, "fullatt_block_indexes": [7, 15, 23, 31],
        },
        tie_word_embeddings=True,
    )  # fmt: skip
    network = library_network(Qwen2_5_VLForConditionalGeneration, config, device, dtype)
    patches = noise(grid * grid, 1176, device=device, dtype=dtype)
    sizes = torch.tensor([[1, grid, grid]], device=device)
    ids = [*range(text // 2), *[image] * (grid // 2) ** 2, *range(text // 2)]
    positions, following = rope_positions(ids, image, grid // 2)
    columns = noise(1, len(ids), width, device=device, dtype=dtype)
    prompt = Prompt(columns, positions=positions.to(device), next_position=following)
    visual = network.model.visual
    return Passes(
        lambda: visual(patches, grid_thw=sizes).pooler_output,
        library_engine(network, tokens),
        prompt,
    )


SHAPES: dict[str, Shape] = {"nora": Published(36, 10, _nora)}

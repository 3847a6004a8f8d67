"""Small random models for the tests of vla/ and decoding/."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from hypothesis import strategies as st

from heisd_ros.families.openvla.action_tokens import ActionStatistics
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.tokenizer_training import train_tokenizer
from heisd_ros.families.openvla.tower_config import TowerConfig
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.vla.language_config import LanguageConfig

INSTRUCTIONS = ("pick up the bowl", "open the top drawer of the cabinet")
VOCABULARY = 530  # 3 special, 256 bytes, a few merges, 256 actions
TOWER = TowerConfig(
    image_size=32, patch_size=8, width=16, depth=1, heads=2, mlp_width=32, stem="conv",
    final_norm=True, pixel_shuffle=2,
)  # fmt: skip
LANGUAGE = LanguageConfig(
    vocab_size=VOCABULARY + 8, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=4, max_position_embeddings=128,
)  # fmt: skip
CONFIG = VLAConfig(
    towers=(TOWER, dataclasses.replace(TOWER, width=24, layer_scale=True)),
    language=LANGUAGE,
    pad_to_multiple_of=8,
    pad_token_id=VOCABULARY,
    projector_width=40,
    views=("agentview", "wrist"),
    proprio_size=3,
    control_rate_hz=20.0,
    prompt="{instruction}\n",
    instructions=INSTRUCTIONS,
)
STATISTICS = {"small": ActionStatistics((-2.0,) * 7, (2.0,) * 7, (True,) * 6 + (False,))}


def small_model(config=CONFIG, seed=0):
    """Weights larger than at the start of training, so that every part shows in the output."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = VLAModel(config)
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape)
            if parameter.dim() > 1:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(0.1 * noise)
    return model.requires_grad_(False)


def small_tokenizer(config=CONFIG):
    return train_tokenizer(INSTRUCTIONS, config.real_vocab_size, prompt=config.prompt)


def small_vla(config=CONFIG, seed=0):
    return VLA(small_model(config, seed), small_tokenizer(config), STATISTICS)


def acting_vla(config=CONFIG, seed=0):
    """One that answers with actions alone, as a trained model does."""
    vla = small_vla(config, seed)
    rows, head = vla.model.action_rows, vla.model.language_model.lm_head.weight
    with torch.no_grad():
        head[: rows.start] = 0.0
        head[rows.stop :] = 0.0
    return vla


def random_images(config=CONFIG, seed=0, size=32):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in config.views)


def random_batch(config, lengths, seed=0):
    """pixels, ids (padded on the right), action tokens, proprio."""
    generator = torch.Generator().manual_seed(seed)
    batch, size = len(lengths), config.image_size
    pixels = torch.randn(batch, len(config.views), 6, size, size, generator=generator)
    ids = torch.randint(3, VOCABULARY - 256, (batch, max(lengths)), generator=generator)
    ids[:, 0] = 1
    for row, length in zip(ids, lengths, strict=True):
        row[length:] = config.pad_token_id
    end = config.real_vocab_size
    actions = torch.randint(end - 256, end, (batch, 7), generator=generator)
    size = config.proprio_size
    proprio = torch.randn(batch, size, generator=generator) if size else None
    return pixels, ids, actions, proprio


@st.composite
def configs(draw):
    """Configurations of many shapes, all small."""
    patch, shuffle = draw(st.sampled_from([(8, 1), (8, 2), (16, 1), (4, 4)]))
    towers = []
    for _ in range(2):
        depth = draw(st.integers(1, 3))
        towers.append(
            TowerConfig(
                image_size=32,
                patch_size=patch,
                width=draw(st.sampled_from([8, 16])),
                depth=depth,
                heads=draw(st.sampled_from([1, 2])),
                mlp_width=draw(st.integers(8, 20)),
                registers=draw(st.integers(0, 2)),
                class_token=draw(st.booleans()),
                layer_scale=draw(st.booleans()),
                stem=draw(st.sampled_from(["conv", "patch"])),
                output_block=draw(st.integers(-depth, -1)),
                final_norm=draw(st.booleans()),
                pixel_shuffle=shuffle,
            )
        )
    heads = draw(st.sampled_from([2, 4]))
    language = dataclasses.replace(
        LANGUAGE,
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=heads,
        num_key_value_heads=draw(st.sampled_from([1, 2, heads])),
        rope_theta=draw(st.sampled_from([100.0, 10000.0])),
    )
    return dataclasses.replace(
        CONFIG,
        towers=tuple(towers),
        language=language,
        projector_width=draw(st.sampled_from([None, 24])),
        views=draw(st.sampled_from([("one",), ("one", "two")])),
        proprio_size=draw(st.sampled_from([0, 3])),
    )

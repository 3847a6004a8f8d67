"""A checkpoint folder of a tiny random model: every part is real, nothing has been learnt."""

from __future__ import annotations

import torch

from heisd_ros.families.openvla.action_tokens import ActionStatistics
from heisd_ros.families.openvla.checkpoint import save_checkpoint
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.tokenizer_training import train_tokenizer
from heisd_ros.families.openvla.tower_config import TowerConfig
from heisd_ros.vla.language_config import LanguageConfig

INSTRUCTIONS = ("pick up the bowl", "open the drawer")
VIEWS = ("agentview", "wrist")


def save_tiny_checkpoint(folder, views=VIEWS, proprio_size=7, instructions=INSTRUCTIONS):
    """Writes the folder and returns it."""
    torch.manual_seed(0)
    vocabulary = 520
    tower = TowerConfig(
        image_size=32,
        patch_size=16,
        width=16,
        depth=1,
        heads=2,
        mlp_width=32,
        stem="conv",
        output_block=-1,
    )
    language = LanguageConfig(
        vocab_size=vocabulary + 8,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
    )
    config = VLAConfig(
        towers=(tower, tower),
        language=language,
        pad_to_multiple_of=8,
        pad_token_id=vocabulary,
        views=views,
        proprio_size=proprio_size,
        control_rate_hz=20.0,
        instructions=instructions,
    )
    statistics = {"test": ActionStatistics(q01=(-1.0,) * 7, q99=(1.0,) * 7)}
    tokenizer = train_tokenizer(INSTRUCTIONS, vocabulary)
    model = VLAModel(config)
    with torch.no_grad():  # it answers with actions alone, as a trained model does
        rows, head = model.action_rows, model.language_model.lm_head.weight
        head[: rows.start] = 0.0
        head[rows.stop :] = 0.0
    save_checkpoint(folder, model, tokenizer, statistics)
    return folder

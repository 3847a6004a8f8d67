"""Training of OpenVLA's architecture, at the size of the model that ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heisd_ros.errors import CheckpointError
from heisd_ros.families.openvla.action_tokens import ActionStatistics
from heisd_ros.families.openvla.checkpoint import save_checkpoint
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.layers import resized
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.preprocessing import ImagePreprocessor
from heisd_ros.families.openvla.tokenizer_training import train_tokenizer
from heisd_ros.families.openvla.tower_config import TowerConfig
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.families.trainable import Corpus, Inputs, TeacherOutput
from heisd_ros.instructions import normalise_instruction
from heisd_ros.vla.language_config import LanguageConfig
from heisd_ros.vla.token_model import TokenModel

STATISTICS_KEY = "libero_panda"
_TEXT_IDS = 1024


class VLATraining:
    """Implements `Trainable`."""

    def __init__(self, vla: VLA) -> None:
        self.vla, self.network = vla, vla.model
        self.statistics = vla.statistics[vla.statistics_key]

    @property
    def codec(self) -> Any:
        """See `Trainable`."""
        codec: Any = self.vla.codec
        return replace(codec, statistics=self.statistics)

    @property
    def rows(self) -> range:
        """See `Trainable`: the action ids; no other is in an answer."""
        return range(*self.vla.model.action_rows.indices(self.vla.config.real_vocab_size))

    @property
    def visual_tokens(self) -> tuple[int, int]:
        """See `Trainable`."""
        return self.vla.config.visual_tokens, self.vla.config.language.hidden_size

    def prompt(self, instruction: str, proprio: NDArray[np.float32]) -> Sequence[int]:
        """See `Trainable`."""
        return self.vla.prompts.encode(instruction)

    def answer(self, chunk: NDArray[np.float64], text: str) -> Sequence[int]:
        """See `Trainable`."""
        return cast(Sequence[int], self.codec.encode(chunk))

    def teach(
        self, pixels: Tensor, prompts: Tensor, lengths: Tensor, answers: Tensor, proprio: Tensor
    ) -> TeacherOutput:
        """See `Trainable`."""
        rows = slice(self.rows.start, self.rows.stop)
        images, state = self.vla.images.normalise(pixels), proprio
        output = self.network.forward_train(
            images, prompts, answers, state if self.vla.config.proprio_size else None, lengths, rows
        )
        return TeacherOutput(output.logits, output.visual_tokens)

    def scale(self) -> dict[str, Any]:
        """See `Trainable`."""
        return self.statistics.to_dict()

    def rescale(self, scale: Mapping[str, Any]) -> None:
        """See `Trainable`."""
        self.statistics = ActionStatistics.from_dict(scale)

    def layout(self) -> dict[str, Any]:
        """See `Trainable`."""
        return self.vla.config.to_dict()

    def save(self, folder: Path, network: nn.Module, dtype: torch.dtype) -> None:
        """See `Trainable`."""
        save_checkpoint(
            folder,
            cast(VLAModel, network),
            self.vla.prompts.tokenizer,
            {STATISTICS_KEY: self.statistics},
            dtype=dtype,
        )


def inputs(start: TokenModel | None) -> Inputs:
    """Implements `Preparation.inputs`."""
    config = start.config if isinstance(start, VLA) else small_config(None, _TEXT_IDS)
    resize = ImagePreprocessor(config).resize
    return Inputs(config.views, resize, float(config.control_rate_hz or 0.0))


def prepare(corpus: Corpus, start: TokenModel | None, layers: int) -> VLATraining:
    """Implements `Preparation.prepare`."""
    return VLATraining(start_of(corpus, start, layers))


def start_of(corpus: Corpus, start: TokenModel | None, layers: int) -> VLA:
    """Returns the model that training starts from: random weights, or the given ones."""
    if start is None:
        vla = blank(corpus)
    elif type(start) is VLA:
        vla = _told(start, corpus.instructions)
    else:  # a subclass answers in other tokens
        raise CheckpointError(f"such a model cannot start from a {type(start).__name__}")
    return resized(vla, layers) if layers else vla


def _told(vla: VLA, instructions: Sequence[str]) -> VLA:
    """Adds instructions to those that a model knows; its tokenizer spells them with its pieces."""
    known = vla.config.instructions
    if known is None:  # it takes any
        return vla
    listed = {normalise_instruction(text) for text in known}
    new = [text for text in instructions if normalise_instruction(text) not in listed]
    if not new:
        return vla
    model = VLAModel(replace(vla.config, instructions=(*known, *new)))
    model.load_state_dict(vla.model.state_dict())
    return vla.around(model)


def small_config(instructions: tuple[str, ...] | None, vocab_size: int) -> VLAConfig:
    """The architecture of the model that ships: deep and narrow, few visual tokens."""
    tower = TowerConfig(
        image_size=128,
        patch_size=16,
        width=64,
        depth=2,
        heads=4,
        mlp_width=256,
        stem="conv",
        final_norm=True,
        pixel_shuffle=4,
    )
    padding = 8
    return VLAConfig(
        towers=(tower, replace(tower, layer_scale=False)),
        projector_width=512,
        language=LanguageConfig(
            vocab_size=vocab_size + padding,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=12,
            num_attention_heads=6,
            max_position_embeddings=256,
        ),
        pad_to_multiple_of=padding,
        pad_token_id=vocab_size,
        views=("agentview", "wrist"),
        proprio_size=7,
        control_rate_hz=20,
        prompt="{instruction}\n",
        instructions=instructions,
    )


def blank(corpus: Corpus) -> VLA:
    """Makes an untrained model, with action statistics of the corpus."""
    config = small_config(corpus.instructions, _TEXT_IDS)
    tokenizer = train_tokenizer(corpus.instructions, _TEXT_IDS, prompt=config.prompt)
    model = VLAModel(config).initialise()
    proprio = torch.from_numpy(corpus.proprio)
    model.proprio_projector.mean.copy_(proprio.mean(0))
    model.proprio_projector.std.copy_(proprio.std(0) + 1e-3)
    return VLA(model, tokenizer, {STATISTICS_KEY: action_statistics(corpus)})


def action_statistics(corpus: Corpus) -> ActionStatistics:
    """Computes quantiles of the deltas; the gripper is -1 or 1 already and passes through.

    The three rotations share the widest of their ranges: an axis that nearly stands still in the
    demonstrations would spend its bins on noise, and no draft of it would ever be right.
    """
    low, high = torch.quantile(
        torch.from_numpy(corpus.actions), torch.tensor([0.01, 0.99], dtype=torch.float64), dim=0
    ).tolist()
    low[3:6], high[3:6] = [min(low[3:6])] * 3, [max(high[3:6])] * 3
    return ActionStatistics(q01=tuple(low), q99=tuple(high), mask=(True,) * 6 + (False,))

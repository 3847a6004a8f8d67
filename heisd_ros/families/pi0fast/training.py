"""Training of a small chunk model: OpenVLA's architecture that answers in FAST tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from heisd_ros.errors import CheckpointError
from heisd_ros.families.fast import FastTokenizer
from heisd_ros.families.openvla.action_tokens import ActionStatistics
from heisd_ros.families.openvla.config import ACTION_BINS, ACTION_DIMENSIONS
from heisd_ros.families.openvla.layers import resized
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.training import (
    STATISTICS_KEY,
    VLATraining,
    action_statistics,
    start_of,
)
from heisd_ros.families.openvla.training import inputs as inputs_of
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.families.openvla.vocabulary import with_actions, with_vocabulary
from heisd_ros.families.pi0fast.own import FOLDER, OwnFast, OwnFastCodec
from heisd_ros.families.trainable import Corpus, Inputs
from heisd_ros.vla.token_model import TokenModel

HORIZON = 10
"""Actions of an answer, as in pi0-FAST's and openpi's models of LIBERO."""
FAST_IDS = 1024
"""Ids kept for FAST tokens: the vocabulary that upstream fits unless it is told another one."""
ZERO = ord("M")
"""The character of coefficient 0.

From -12 to 13 all are capital letters, which no split parts. Upstream's choice would make 0 a blank
here, at which texts are split: of 1514 chunks that took 19.2 ids on average instead of 13.6. What
occurs in a chunk of 10 within [-1, 1], -32 to 32, is printable ASCII, which the byte level can
always write, seen or not.
"""
_TABLES = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")


class FastTraining(VLATraining):
    """Implements `Trainable`."""

    vla: OwnFast

    def __init__(self, vla: OwnFast) -> None:
        super().__init__(vla)
        self._take(self.statistics, vla.fast)

    def _take(self, statistics: ActionStatistics, fast: FastTokenizer) -> None:
        self.statistics, self.fast = statistics, fast
        self._codec = self.vla.codec_for(fast, statistics)

    @property
    def codec(self) -> OwnFastCodec:
        """See `Trainable`."""
        return self._codec

    @property
    def rows(self) -> range:
        """See `Trainable`: every id, so that those of text lose against all others."""
        return range(self.vla.config.language.vocab_size)

    def scale(self) -> dict[str, Any]:
        """See `Trainable`: statistics, and the FAST tokenizer that was fitted to them."""
        fast = self.fast
        numbers = {"scale": fast.scale, "min_token": fast.min_token}
        return {**super().scale(), "fast": {**numbers, "tokenizer": fast.tokenizer.to_str()}}

    def rescale(self, scale: Mapping[str, Any]) -> None:
        """See `Trainable`."""
        fast = dict(scale["fast"])
        tokenizer = Tokenizer.from_str(fast.pop("tokenizer"))
        self._take(ActionStatistics.from_dict(scale), FastTokenizer(tokenizer, **fast))

    def save(self, folder: Path, network: nn.Module, dtype: torch.dtype) -> None:
        """See `Trainable`."""
        self.fast.save(folder / FOLDER)
        super().save(folder, network, dtype)


def inputs(start: TokenModel | None) -> Inputs:
    """Implements `Preparation.inputs`."""
    horizon = start.codec.horizon if isinstance(start, OwnFast) else HORIZON
    return inputs_of(start)._replace(horizon=horizon)


def prepare(corpus: Corpus, start: TokenModel | None, layers: int) -> FastTraining:
    """Implements `Preparation.prepare`: from a chunk model, or from one that acts only.

    Of the latter the action scale is not kept: quantiles and FAST tokenizer are fitted.
    """
    if corpus.chunks is None:
        raise CheckpointError("the demonstrations were read without chunks of actions to learn")
    if isinstance(start, OwnFast):
        return FastTraining(resized(start, layers) if layers else start)
    return FastTraining(_chunked(start_of(corpus, start, layers), corpus, corpus.chunks))


def _chunked(vla: VLA, corpus: Corpus, chunks: NDArray[np.float64]) -> OwnFast:
    """Gives a model FAST tokens, fitted to demonstrations, in the place of its bins."""
    horizon = chunks.shape[1]
    statistics = action_statistics(corpus)
    tokenizer = with_actions(vla.prompts.tokenizer, [f"<fast_{i}>" for i in range(FAST_IDS)])
    fast = FastTokenizer.fit(statistics.normalise(chunks), vocab_size=FAST_IDS, zero=ZERO)
    config = with_vocabulary(vla.config, tokenizer)
    prompts = max(len(vla.prompts.encode(text)) for text in corpus.instructions)
    room = config.prefix_tokens + prompts + horizon * ACTION_DIMENSIONS
    positions = max(config.language.max_position_embeddings, room)
    config = replace(
        config,
        horizon=horizon,
        language=replace(config.language, max_position_embeddings=positions),
    )
    network = VLAModel(config)
    state = {**vla.model.state_dict()}
    kept = vla.config.real_vocab_size - ACTION_BINS
    for name in _TABLES:
        rows = torch.empty(config.language.vocab_size, config.language.hidden_size)
        rows.normal_(0.0, 0.02)
        rows[:kept] = state[name][:kept]
        state[name] = rows
    network.load_state_dict(state)
    return OwnFast(network, tokenizer, {STATISTICS_KEY: statistics}, fast=fast)

"""Training of a small reasoning model: OpenVLA's architecture that says why, then acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import CheckpointError
from heisd_ros.families.ecot.codec import TAGS
from heisd_ros.families.ecot.own import PROMPT, OwnEcot
from heisd_ros.families.openvla.layers import resized
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.training import VLATraining, start_of
from heisd_ros.families.openvla.training import inputs as inputs_of
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.families.openvla.vocabulary import grown, transplant, with_vocabulary, words_of
from heisd_ros.families.trainable import Corpus, Inputs
from heisd_ros.vla.token_model import TokenModel

_ROOM = 1.25
"""Longest answer of the demonstrations to the longest that is allowed."""


class EcotTraining(VLATraining):
    """Implements `Trainable`."""

    @property
    def rows(self) -> range:
        """See `Trainable`: every id."""
        return range(self.vla.config.language.vocab_size)

    def answer(self, chunk: NDArray[np.float64], text: str) -> Sequence[int]:
        """See `Trainable`."""
        return cast(Sequence[int], self.codec.answer(chunk, text))

    def layout(self) -> dict[str, Any]:
        """See `Trainable`; with the words, which come from the demonstrations."""
        words = self.vla.prompts.tokenizer.to_str().encode()
        return {**super().layout(), "words": sha256(words).hexdigest()}


def inputs(start: TokenModel | None) -> Inputs:
    """Implements `Preparation.inputs`."""
    return inputs_of(start)._replace(reasoning=True)


def prepare(corpus: Corpus, start: TokenModel | None, layers: int) -> EcotTraining:
    """Implements `Preparation.prepare`: from a reasoning model, or from one that acts only."""
    if not corpus.texts:
        raise CheckpointError(
            "the demonstrations hold no reasoning to learn; `heisd relabel` writes it"
        )
    if isinstance(start, OwnEcot):
        return EcotTraining(resized(start, layers) if layers else start)
    return EcotTraining(_taught(start_of(corpus, start, layers), corpus.texts))


def _taught(vla: VLA, texts: Sequence[str]) -> OwnEcot:
    """Gives a model the words of reasonings, and room for them in its answers."""
    old, instructions = vla.prompts.tokenizer, vla.config.instructions or ()
    prompts = [text.lower() for text in instructions]
    tokenizer = grown(old, words_of([*texts, " ACTION:"], TAGS, prompts))
    config = with_vocabulary(vla.config, tokenizer)
    longest = max(len(tokenizer.encode(text).ids) for text in texts)
    prefix = config.prefix_tokens + max(len(old.encode(text).ids) for text in prompts) + 2
    room = round(_ROOM * longest) + 16
    positions = max(config.language.max_position_embeddings, prefix + room)
    config = replace(
        config,
        prompt=PROMPT,
        max_tokens=room,
        language=replace(config.language, max_position_embeddings=positions),
    )
    network = VLAModel(config)
    state = {**vla.model.state_dict()}
    for name in ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"):
        state[name] = transplant(state[name], old, tokenizer, config.language.vocab_size)
    network.load_state_dict(state)
    return OwnEcot(network, tokenizer, vla.statistics, vla.statistics_key)

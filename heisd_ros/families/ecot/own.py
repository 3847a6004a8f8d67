"""ECoT's answers from a network of OpenVLA's architecture: the small reasoning models made here."""

from __future__ import annotations

from functools import cached_property

from numpy.typing import ArrayLike
from tokenizers import Tokenizer

from heisd_ros.families.ecot.codec import TAGS, EcotCodec
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.vla.action_codec import ActionCodec

STOP = "</s>"
PROMPT = "{instruction}\nTASK:"
"""``TASK:`` makes the model begin with its reasoning, as in ECoT."""


class OwnEcotCodec(EcotCodec):
    """ECoT's answers in words that begin with their space, without a lone space before the action.

    Every tag is one word, so framing has no more to it than the tags.
    """

    @cached_property
    def tags(self) -> tuple[tuple[int, ...], ...]:
        """Implements `reasoning.tags_of`."""
        return tuple(self._ids(tag) for tag in TAGS[1:])

    def answer(self, chunk: ArrayLike, text: str) -> tuple[int, ...]:
        """Encodes a reasoning that begins with ``TASK:``, and the action [1, 7] after it."""
        return (*self._ids(text.removeprefix(TAGS[0])), *self.encode(chunk))

    def _ids(self, text: str) -> tuple[int, ...]:
        return super()._ids(f" {text.strip()}")


class OwnEcot(VLA):
    """Implements `TokenModel`: OpenVLA's network and inputs, ECoT's answers.

    It is no `BatchModel`, since answers differ in length.
    """

    answer_frames = None  # type: ignore[assignment]

    def _codec(self, tokenizer: Tokenizer) -> ActionCodec:
        return OwnEcotCodec(
            self.config.real_vocab_size,
            self.config.max_tokens or 0,
            _stops(tokenizer),
            tokenizer,
            self.statistics[self.statistics_key],
            self.convention,
        )


def _stops(tokenizer: Tokenizer) -> frozenset[int]:
    stop = tokenizer.token_to_id(STOP)
    return frozenset() if stop is None else frozenset({stop})

"""Answers of ECoT: reasoning, ``ACTION:``, 7 action ids, the end token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer

from heisd_ros.errors import AnswerError
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.openvla.action_tokens import ActionStatistics, ActionTokenizer
from heisd_ros.families.openvla.config import ACTION_BINS, ACTION_DIMENSIONS

TAGS = (
    "TASK:",
    "PLAN:",
    "VISIBLE OBJECTS:",
    "SUBTASK REASONING:",
    "SUBTASK:",
    "MOVE REASONING:",
    "MOVE:",
    "GRIPPER POSITION:",
    "ACTION:",
)
"""What the parts of an answer begin with; the prompt holds the first. Any may be missing."""


@dataclass(frozen=True)
class EcotAnswer:
    """Implements `AnswerFormat`.

    Attributes:
        vocab_size: the real vocabulary size, without padding rows.
        max_tokens: tokens of an answer, at most.
        stop_ids: ids that end an answer.
    """

    vocab_size: int
    max_tokens: int
    stop_ids: frozenset[int]

    counted = False
    groups: ClassVar[tuple[range, ...]] = ()

    @property
    def action_ids(self) -> range:
        """The last 256 ids of the real vocabulary."""
        return range(self.vocab_size - ACTION_BINS, self.vocab_size)

    def finished(self, tokens: Sequence[int]) -> bool:
        """Implements `AnswerFormat.finished`."""
        return len(tokens) >= self.max_tokens or (len(tokens) > 0 and tokens[-1] in self.stop_ids)

    def distance(self, token: int, greedy: int, position: int) -> int | None:
        """Implements `AnswerFormat.distance`: none, since actions have no fixed position."""
        return 0 if token == greedy else None


@dataclass(frozen=True)
class EcotCodec(EcotAnswer):
    """Implements `ActionCodec`.

    Upstream's two ways disagree: that of Hugging Face's class takes the last 7 tokens with the end
    token among them, which shifts every number and keeps the gripper open. This is the other one,
    which the model was trained for.

    Attributes:
        tokenizer: of text.
        statistics: of the demonstrations.
        convention: what stands between the model and its environment.
    """

    tokenizer: Tokenizer
    statistics: ActionStatistics
    convention: DataConvention

    horizon = 1
    dimensions = ACTION_DIMENSIONS

    def action_tokens(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The 7 action ids of a finished answer.

        Raises:
            AnswerError: the answer never ended, or its last 7 tokens before the end are not the
                only actions in it.
        """
        if not tokens or tokens[-1] not in self.stop_ids:
            raise AnswerError(f"the answer did not end within {len(tokens)} tokens")
        ids, body = self.action_ids, tokens[:-1]
        found = [place for place, token in enumerate(body) if token in ids]
        if found != [*range(len(body) - ACTION_DIMENSIONS, len(body))]:
            raise AnswerError(
                f"the answer holds {len(found)} action ids"
                + (f", at {found[:10]} of {len(body)} tokens" if found else "")
                + f"; accepted: {ACTION_DIMENSIONS}, the last ones"
            )
        return tuple(body[-ACTION_DIMENSIONS:])

    def normalised(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """The action [7] of a finished answer, in [-1, 1]; raises as `action_tokens`."""
        return ActionTokenizer(self.vocab_size).decode(self.action_tokens(tokens))

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Implements `ActionCodec.decode`: [1, 7]."""
        own = self.statistics.unnormalise(self.normalised(tokens))
        return self.convention.to_environment(own)[None]

    def encode(self, chunk: ArrayLike) -> tuple[int, ...]:
        """Implements `ActionCodec.encode`: an answer without a reasoning."""
        (action,) = np.asarray(chunk, dtype=np.float64)
        own = self.statistics.normalise(self.convention.to_model(action))
        ids = ActionTokenizer(self.vocab_size).encode(own).tolist()
        head = self.tokenizer.encode("ACTION: ", add_special_tokens=False).ids
        return (*head, *ids, min(self.stop_ids))

    def text(self, tokens: Sequence[int]) -> str:
        """What an answer says, its actions left out."""
        said = [token for token in tokens if token not in self.action_ids]
        return str(self.tokenizer.decode(said, skip_special_tokens=True)).strip()

    def parts(self, tokens: Sequence[int]) -> dict[str, str]:
        """What an answer says, by its tags without their colons; without those that are missing."""
        text = f" {TAGS[0]} {self.text(tokens)}"
        # With a space in front: SUBTASK: ends like TASK:.
        found = sorted((text.find(f" {tag}"), tag) for tag in TAGS if f" {tag}" in text)
        ends = [place for place, _ in found[1:]] + [len(text)]
        return {
            tag.rstrip(":"): text[place + 1 + len(tag) : end].strip()
            for (place, tag), end in zip(found, ends, strict=True)
        }

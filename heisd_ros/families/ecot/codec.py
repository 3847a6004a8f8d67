"""Answers of ECoT: reasoning, ``ACTION:``, 7 action ids, the end token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer

from heisd_ros.errors import AnswerError
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.openvla.action_tokens import ActionStatistics, ActionTokenizer
from heisd_ros.families.openvla.codec import BinnedActions
from heisd_ros.families.openvla.config import ACTION_DIMENSIONS
from heisd_ros.vla.action_codec import POSE_GROUPS
from heisd_ros.vla.reasoning import Part

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
FRAMING = (*TAGS[1:-2], "GRIPPER POSITION: [", "ACTION: ")
"""The tags of an answer with the fixed text that follows them."""
MOTION_TAGS = ("MOVE REASONING:", "GRIPPER POSITION:")
"""Upstream's freezing keeps what stands before the first of these that the answer has."""


@dataclass(frozen=True)
class EcotAnswer(BinnedActions):
    """Implements `AnswerFormat`, and `PlacedActions`.

    Attributes:
        max_tokens: tokens of an answer, at most.
        stop_ids: ids that end an answer.
    """

    max_tokens: int
    stop_ids: frozenset[int]

    counted = False
    groups: ClassVar[tuple[range, ...]] = ()
    action_groups = POSE_GROUPS

    def finished(self, tokens: Sequence[int]) -> bool:
        """Implements `AnswerFormat.finished`."""
        return len(tokens) >= self.max_tokens or (len(tokens) > 0 and tokens[-1] in self.stop_ids)

    def place(self, tokens: Sequence[int]) -> int:
        """Implements `PlacedActions.place`."""
        ids, place = self.action_ids, 0
        while place < len(tokens) and tokens[-1 - place] in ids:
            place += 1
        return place


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

    @cached_property
    def tags(self) -> tuple[tuple[int, ...], ...]:
        """Implements `reasoning.tags_of`."""
        return tuple(self._ids(text) for text in FRAMING)

    def kept(self, tokens: Sequence[int], again: Part) -> tuple[int, ...]:
        """Implements `Reasoning.kept`; ``motion`` begins where upstream's frozen prefix ends."""
        acts = next((n for n, token in enumerate(tokens) if token in self.action_ids), 0)
        if again == "action":
            return tuple(tokens[:acts])
        places = (place_of(self._ids(tag), tokens) for tag in MOTION_TAGS)
        return tuple(tokens[: next((place for place in places if place is not None), 0)])

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
        return (*self._ids("ACTION: "), *ids, min(self.stop_ids))

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def text(self, tokens: Sequence[int]) -> str:
        """Implements `Reasoning.text`."""
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


def place_of(part: Sequence[int], tokens: Sequence[int]) -> int | None:
    """Returns where ids first occur in others; None if they do not."""
    length, sought = len(part), tuple(part)
    starts = range(len(tokens) - length + 1)
    return next((n for n in starts if tuple(tokens[n : n + length]) == sought), None)

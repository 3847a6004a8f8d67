"""OpenVLA's answers: one id for each of the 7 numbers of an action, and none that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heisd_ros.errors import AnswerError
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.openvla.action_tokens import ActionStatistics, ActionTokenizer
from heisd_ros.families.openvla.config import ACTION_BINS, ACTION_DIMENSIONS
from heisd_ros.vla.action_codec import POSE_GROUPS


@dataclass(frozen=True)
class BinnedActions:
    """The ids of actions in the last bins of a vocabulary; the gripper's is open or closed.

    Attributes:
        vocab_size: the real vocabulary size, without padding rows.
    """

    vocab_size: int

    action_space = "end_effector"

    @property
    def action_ids(self) -> range:
        """The last 256 ids of the real vocabulary."""
        return range(self.vocab_size - ACTION_BINS, self.vocab_size)

    def distance(self, token: int, greedy: int, position: int) -> int | None:
        """Implements `AnswerFormat.distance`: bins of the pose, none of text and gripper."""
        if token == greedy:
            return 0
        ids = self.action_ids
        ordered = position < POSE_GROUPS[-1].stop and token in ids and greedy in ids
        return abs(token - greedy) if ordered else None


@dataclass(frozen=True)
class OpenVLAAnswer(BinnedActions):
    """Implements `AnswerFormat`."""

    max_tokens = ACTION_DIMENSIONS
    counted = True
    groups = POSE_GROUPS

    def finished(self, tokens: Sequence[int]) -> bool:
        """Implements `AnswerFormat.finished`."""
        return len(tokens) >= ACTION_DIMENSIONS


@dataclass(frozen=True)
class OpenVLACodec(OpenVLAAnswer):
    """Implements `ActionCodec`, with the demonstrations' range and the environment's convention.

    Attributes:
        statistics: of the demonstrations.
        convention: what stands between the model and its environment.
    """

    statistics: ActionStatistics
    convention: DataConvention

    horizon = 1
    dimensions = ACTION_DIMENSIONS

    @property
    def tokenizer(self) -> ActionTokenizer:
        """Ids and bins of normalised actions."""
        return ActionTokenizer(self.vocab_size)

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Implements `ActionCodec.decode`: [1, 7].

        Upstream decodes an id that is no action to the end of its range, which is motion at full
        speed. Here it is an error, and the arm is held.
        """
        ids = self.action_ids
        strange = [int(token) for token in tokens if token not in ids]
        if strange or len(tokens) != ACTION_DIMENSIONS:
            raise AnswerError(
                f"the model answered {list(tokens)}"
                + (f", of which {strange} are no actions" if strange else "")
                + f"; accepted: {ACTION_DIMENSIONS} ids from {ids.start} to {ids.stop - 1}"
            )
        return self.actions(tokens)[None]

    def encode(self, chunk: ArrayLike) -> tuple[int, ...]:
        """Implements `ActionCodec.encode`."""
        (action,) = np.asarray(chunk, dtype=np.float64)
        return tuple(self.tokens(action).tolist())

    def actions(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Action ids [..., 7] -> actions in robot units."""
        own = self.statistics.unnormalise(self.tokenizer.decode(tokens))
        return self.convention.to_environment(own)

    def tokens(self, actions: ArrayLike) -> NDArray[np.int64]:
        """Actions [..., 7] in robot units -> ids: `actions` inverted, up to a bin."""
        own = self.statistics.normalise(self.convention.to_model(actions))
        return self.tokenizer.encode(own)

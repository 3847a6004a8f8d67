"""FAST chunks from a network of OpenVLA's architecture: the small chunk models made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer

from heisd_ros.errors import AnswerError, CheckpointError
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.fast import FastTokenizer
from heisd_ros.families.openvla.action_tokens import ActionStatistics
from heisd_ros.families.openvla.checkpoint import load_checkpoint as load_vla
from heisd_ros.families.openvla.config import ACTION_DIMENSIONS
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.files.bounded import shown
from heisd_ros.vla.checkpoint_files import CheckpointFiles

FOLDER = "action_tokenizer"
"""Where the FAST tokenizer lies, as in LeRobot's layout."""
FIRST = "<fast_0>"
"""The text tokenizer's name of FAST id 0; the others follow it, up to the end of the vocabulary."""


class OwnFastCodec:
    """Implements `ActionCodec`: an answer is FAST ids alone, up to H * 7 coefficients.

    There is no stop id: the id that brings the last coefficient ends the answer, and what else it
    brings is ignored. A stop id could end an answer too early, and as the arm is held then, the
    same picture would give the same answer again. The price is that a model that lost count is not
    found out by the number of coefficients.

    Attributes:
        action_ids: ids that stand for FAST ids, which count from 0.
        horizon: H.
        max_tokens: as in `AnswerFormat`: one id a coefficient.
        steps: as in `SpannedActions`.
        convention: what stands between the model and its environment.

    Args:
        fast: the FAST tokenizer.
        statistics: the range that is scaled to [-1, 1]; what lies outside is clipped.
        horizon: as above.
        action_ids: as above.
        convention: as above.
    """

    counted = False
    groups: tuple[range, ...] = ()
    action_space = "end_effector"
    dimensions = ACTION_DIMENSIONS

    def __init__(
        self,
        fast: FastTokenizer,
        statistics: ActionStatistics,
        horizon: int,
        action_ids: range,
        convention: DataConvention,
    ) -> None:
        self._fast, self._statistics = fast, statistics
        self.horizon, self.action_ids, self.convention = horizon, action_ids, convention
        self.max_tokens = horizon * self.dimensions
        self.steps = fast.steps(horizon, self.dimensions)

    def finished(self, tokens: Sequence[int]) -> bool:
        """Implements `AnswerFormat.finished`."""
        most = self.max_tokens
        return len(tokens) >= most or sum(len(self.span(token)) for token in tokens) >= most

    def distance(self, token: int, greedy: int, position: int) -> int | None:
        """Implements `AnswerFormat.distance`: none, since ids cover several coefficients."""
        return 0 if token == greedy else None

    def span(self, token: int) -> tuple[int, ...]:
        """Implements `SpannedActions.span`."""
        index = token - self.action_ids.start
        return self._fast.spans[index] if 0 <= index < self._fast.size else ()

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Implements `ActionCodec.decode`: [H, 7]."""
        ids = self.action_ids
        if strange := [token for token in tokens if token not in ids]:
            raise AnswerError(
                f"the answer holds the ids {shown(strange)}, which are no actions; accepted: "
                f"{ids.start} to {ids.stop - 1}"
            )
        found = self._fast.coefficients([token - ids.start for token in tokens])
        if len(found) < self.max_tokens:
            raise AnswerError(
                f"the answer holds {len(found)} coefficients; {self.max_tokens} are needed"
            )
        whole = found[: self.max_tokens].reshape(self.horizon, self.dimensions)
        own = self._statistics.unnormalise(self._fast.actions(whole))
        return self.convention.to_environment(own)

    def encode(self, chunk: ArrayLike) -> tuple[int, ...]:
        """Implements `ActionCodec.encode`.

        Raises:
            ValueError: the FAST tokenizer cannot write a coefficient.
        """
        own = self._statistics.normalise(self.convention.to_model(chunk))
        return tuple(self.action_ids.start + index for index in self._fast.encode(own))


class OwnFast(VLA):
    """Implements `TokenModel`: OpenVLA's network and inputs, chunks of actions in FAST tokens.

    It is no `BatchModel`, since answers differ in length.

    Args:
        model: as in `VLA`, like all the others.
        fast: the FAST tokenizer.

    Raises:
        CheckpointError: the tokenizers do not fit each other.
    """

    answer_frames = None  # type: ignore[assignment]

    def __init__(
        self,
        model: VLAModel,
        tokenizer: Tokenizer,
        statistics: Mapping[str, ActionStatistics],
        statistics_key: str | None = None,
        convention: DataConvention | None = None,
        *,
        fast: FastTokenizer,
    ) -> None:
        self.fast = fast
        super().__init__(model, tokenizer, statistics, statistics_key, convention)

    def around(self, model: VLAModel) -> OwnFast:
        """See `VLA.around`."""
        tokenizer, key = self.prompts.tokenizer, self.statistics_key
        return OwnFast(model, tokenizer, self.statistics, key, fast=self.fast)

    def codec_for(self, fast: FastTokenizer, statistics: ActionStatistics) -> OwnFastCodec:
        """Makes the codec of this model's ids for a FAST tokenizer and a range of actions."""
        first = self.prompts.tokenizer.token_to_id(FIRST)
        end = self.config.real_vocab_size
        if first is None or first + fast.size > end:
            raise CheckpointError(
                f"the FAST tokenizer has {fast.size} ids; the text tokenizer has {FIRST} at "
                f"{first} of {end}"
            )
        horizon = self.config.horizon or 1
        return OwnFastCodec(fast, statistics, horizon, range(first, end), self.convention)

    def _codec(self, tokenizer: Tokenizer) -> OwnFastCodec:
        return self.codec_for(self.fast, self.statistics[self.statistics_key])


def load_own(folder: str | Path, *arguments: Any, **options: Any) -> OwnFast:
    """Loads a folder of a small chunk model; as `openvla.checkpoint.load_checkpoint`."""
    fast = FastTokenizer.read(CheckpointFiles.find(folder).config.parent / FOLDER)
    vla = load_vla(folder, *arguments, kind=partial(OwnFast, fast=fast), **options)
    return cast(OwnFast, vla)

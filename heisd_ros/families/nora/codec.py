"""Answers of NORA: FAST ids among whatever else is written, up to a stop id."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heisd_ros.errors import AnswerError
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.fast import FastTokenizer

DIMENSIONS = 7


class NoraCodec:
    """Implements `ActionCodec`: an answer is a chunk of H actions.

    Upstream puts the middle of every range where an answer does not decode; here it is an
    `AnswerError`.

    Attributes:
        action_ids: as in `AnswerFormat`.
        max_tokens: as in `AnswerFormat`.
        stop_ids: ids that end an answer.
        horizon: H.
        steps: as in `SpannedActions`.
        convention: what stands between the model and its environment.

    Args:
        fast: the FAST tokenizer.
        low: [7] lower quantile of each number, robot units.
        high: [7] upper quantile.
        horizon: as above.
        action_ids: as above.
        stop_ids: as above.
        max_tokens: as above.
        convention: what stands between the model and its environment (None: nothing).
    """

    counted = False
    groups: tuple[range, ...] = ()
    action_space = "end_effector"
    dimensions = DIMENSIONS

    def __init__(
        self,
        fast: FastTokenizer,
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        horizon: int,
        action_ids: range,
        stop_ids: frozenset[int],
        max_tokens: int,
        convention: DataConvention | None = None,
    ) -> None:
        self._fast, self._low, self._high = fast, low, high
        self.horizon, self.action_ids = horizon, action_ids
        self.steps = fast.steps(horizon, DIMENSIONS)
        self.stop_ids, self.max_tokens = stop_ids, max_tokens
        self.convention = convention or DataConvention()

    def finished(self, tokens: Sequence[int]) -> bool:
        """Implements `AnswerFormat.finished`."""
        return len(tokens) >= self.max_tokens or (len(tokens) > 0 and tokens[-1] in self.stop_ids)

    def distance(self, token: int, greedy: int, position: int) -> int | None:
        """Implements `AnswerFormat.distance`: none, since ids cover several coefficients."""
        return 0 if token == greedy else None

    def span(self, token: int) -> tuple[int, ...]:
        """Implements `SpannedActions.span`."""
        index = token - self.action_ids.start
        return self._fast.spans[index] if 0 <= index < self._fast.size else ()

    def chunk(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """The normalised actions [H, 7] of a finished answer; text between them is skipped.

        Raises:
            AnswerError: the answer stands for no actions, or never ended.
        """
        if not tokens or tokens[-1] not in self.stop_ids:
            raise AnswerError(f"the answer did not end within {len(tokens)} tokens")
        ids = [token - self.action_ids.start for token in tokens if token in self.action_ids]
        if not ids:
            raise AnswerError(f"none of the answer's {len(tokens)} tokens is an action")
        return self._fast.decode(ids, self.horizon, self.dimensions)

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Implements `ActionCodec.decode`: all are scaled, also the gripper; none is clipped."""
        # Upstream reads the statistics' mask and does not use it.
        own = 0.5 * (self.chunk(tokens) + 1) * (self._high - self._low) + self._low
        return self.convention.to_environment(own)

    def encode(self, chunk: ArrayLike) -> tuple[int, ...]:
        """Implements `ActionCodec.encode`.

        Raises:
            ValueError: the FAST tokenizer cannot write a coefficient.
        """
        given = self.convention.to_model(chunk)
        width = np.where(self._high > self._low, self._high - self._low, 1.0)
        normalised = np.where(self._high > self._low, 2.0 * (given - self._low) / width - 1.0, 0.0)
        ids = self._fast.encode(normalised)
        return (*(self.action_ids.start + index for index in ids), max(self.stop_ids))

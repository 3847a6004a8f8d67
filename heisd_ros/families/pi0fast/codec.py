"""Answers of pi0-FAST: ``Action: ``, FAST ids written as the last ids of the vocabulary, ``|``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer

from heisd_ros.errors import AnswerError, CheckpointError
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.fast import FastTokenizer
from heisd_ros.families.pi0fast.normalisation import Normalisation
from heisd_ros.files.bounded import shown

_STEP = 7
"""Numbers of a step of the end effector, the gripper's included."""
_FRAMING = ("Action", ":", "\u2581")
_BAR = "|"


class Pi0FastCodec:
    """Implements `ActionCodec`: an answer is a chunk of H actions.

    LeRobot fills, cuts or zeroes what does not decode; here it is an `AnswerError`.

    Attributes:
        action_ids: text ids that stand for FAST ids.
        max_tokens: as in `ActionCodec`.
        horizon: H.
        dimensions: D.
        steps: as in `SpannedActions`.
        convention: what stands between the model and its environment.
        framing: ids that every answer begins with.
        tags: the framing; see `reasoning.tags_of`.
        bar: the id that ends an answer.

    Args:
        text: the text tokenizer.
        fast: the FAST tokenizer.
        actions: normalisation of actions.
        horizon: H.
        max_tokens: as above.
        skipped: ids at the end of the vocabulary that are no FAST ids.
        convention: what stands between the model and its environment (None: nothing).

    Raises:
        CheckpointError: the text tokenizer lacks the framing, or the convention is of a gripper
            that the actions have not.
    """

    counted = False
    groups: tuple[range, ...] = ()
    action_space = ""

    def __init__(
        self,
        text: Tokenizer,
        fast: FastTokenizer,
        actions: Normalisation,
        horizon: int,
        max_tokens: int,
        skipped: int,
        convention: DataConvention | None = None,
    ) -> None:
        self._fast, self._actions = fast, actions
        self.horizon, self.dimensions = horizon, len(actions.first)
        self.steps = fast.steps(self.horizon, self.dimensions)
        self.max_tokens = max_tokens
        self.convention = convention or DataConvention()
        if self.convention.gripper is not None and self.dimensions != _STEP:
            raise CheckpointError(
                f"the protocol names a gripper, the last of {_STEP} numbers; the "
                f"model's actions have {self.dimensions}"
            )
        known = {piece: text.token_to_id(piece) for piece in (*_FRAMING, _BAR)}
        ids = tuple(index for index in known.values() if index is not None)
        if len(ids) < len(known):
            raise CheckpointError(f"the text tokenizer lacks one of {[*known]}: they have {ids}")
        self.framing, self.bar = ids[:-1], ids[-1]
        self.tags = (self.framing,)
        self._top = text.get_vocab_size(with_added_tokens=False) - 1 - skipped
        self.action_ids = range(max(0, self._top - fast.size + 1), self._top + 1)

    def finished(self, tokens: Sequence[int]) -> bool:
        """Implements `AnswerFormat.finished`."""
        return len(tokens) >= self.max_tokens or (len(tokens) > 0 and tokens[-1] == self.bar)

    def distance(self, token: int, greedy: int, position: int) -> int | None:
        """Implements `AnswerFormat.distance`: none, since ids cover several coefficients."""
        return 0 if token == greedy else None

    def span(self, token: int) -> tuple[int, ...]:
        """Implements `SpannedActions.span`."""
        text = token not in self.action_ids or token in (*self.framing, self.bar)
        return () if text else self._fast.spans[self._top - token]

    def fast_ids(self, tokens: Sequence[int]) -> list[int]:
        """The FAST ids between the framing; those outside the vocabulary are among them.

        Raises:
            AnswerError: the answer doesn't begin with ``Action:``, or never ended.
        """
        if tuple(tokens[:2]) != self.framing[:2]:
            raise AnswerError(
                f"the answer begins with the ids {shown([*tokens[:3]])}, no 'Action:'"
            )
        if self.bar not in tokens:
            raise AnswerError(f"the answer did not end within {len(tokens)} tokens")
        body = list(tokens[: tokens.index(self.bar)])
        kept: list[int] = []
        for token in body:  # wherever the framing stands, it is no action
            kept.append(token)
            if tuple(kept[-len(self.framing) :]) == self.framing:
                del kept[-len(self.framing) :]
        return [self._top - token for token in kept]

    def chunk(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The normalised actions [H, D] of a finished answer.

        Raises:
            AnswerError: the answer stands for no actions.
        """
        ids = self.fast_ids(tokens)
        return self._fast.decode(ids, self.horizon, self.dimensions).astype(np.float32)

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Implements `ActionCodec.decode`."""
        own = self._actions.inverse(self.chunk(tokens)).astype(np.float64)
        return self.convention.to_environment(own)

    def encode(self, chunk: ArrayLike) -> tuple[int, ...]:
        """Implements `ActionCodec.encode`.

        Raises:
            ValueError: the FAST tokenizer cannot write a coefficient.
        """
        ids = self._fast.encode(self._actions.forward(self.convention.to_model(chunk)))
        return (*self.framing, *(self._top - index for index in ids), self.bar)

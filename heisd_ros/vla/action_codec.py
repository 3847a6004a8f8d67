"""What the tokens of a model's answer are, and which actions they stand for.

An answer is what the model says after a prompt: as many tokens as its family writes, or up to a
stop id. Decoders and engines know nothing else of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

POSE_GROUPS = (range(3), range(3, 6))
"""Position, then rotation, of an action that is a step of the end effector, one id a number."""


def motion_of(groups: Sequence[range]) -> slice:
    """The places of an answer whose tokens have a distance; empty without groups.

    Args:
        groups: `AnswerFormat.groups`, each of which begins where the one before ends.
    """
    return slice(groups[0].start, groups[-1].stop) if groups else slice(0, 0)


class AnswerFormat(Protocol):
    """How an answer is written: its ids, its end, and which of its tokens may differ a little.

    Attributes:
        action_ids: token ids that stand for actions; a stop id is none.
        max_tokens: tokens of the longest answer, the stop id included.
        counted: an answer has `max_tokens` tokens whatever they are, so that none need be read
            before the last one is known.
        groups: ranges of positions whose tokens are accepted together, one behind the other
            (`POSE_GROUPS`); empty where no two tokens have a distance. A position outside takes
            equality alone; the one behind the last group, if there is one, is the gripper's.
    """

    @property
    def action_ids(self) -> range: ...  # noqa: D102

    @property
    def max_tokens(self) -> int: ...  # noqa: D102

    @property
    def counted(self) -> bool: ...  # noqa: D102

    @property
    def groups(self) -> tuple[range, ...]: ...  # noqa: D102

    def finished(self, tokens: Sequence[int]) -> bool:
        """Whether an answer ends with the last of these tokens; true of any `max_tokens` tokens.

        It is asked after every token, so it must cost next to nothing.
        """
        ...

    def distance(self, token: int, greedy: int, position: int) -> int | None:
        """How far a token lies from the model's own.

        Args:
            token: a token id.
            greedy: the model's own at this place.
            position: place within the answer.

        Returns:
            Bins between them; 0 for the same id; None where they differ and nothing orders them.
        """
        ...


class ActionCodec(AnswerFormat, Protocol):
    """Answers as actions in robot units, and back.

    Attributes:
        horizon: actions of an answer (H): control steps that it decides.
        dimensions: numbers of an action (D).
    """

    @property
    def horizon(self) -> int: ...  # noqa: D102

    @property
    def dimensions(self) -> int: ...  # noqa: D102

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """The [H, D] actions of a finished answer, in robot units.

        Raises:
            AnswerError: the answer stands for no actions. It is never read as some that it may
                have meant, least of all as zeros.
        """
        ...

    def encode(self, chunk: ArrayLike) -> tuple[int, ...]:
        """The answer that stands for [H, D] actions in robot units, up to what ids can express."""
        ...

"""The format of a model's answers, and the actions that they encode.

An answer is what the model generates after a prompt: a number of tokens that its family fixes, or
up to a stop id. Decoders and engines know nothing else about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_TOKENS = 1 << 13
"""Tokens of the longest answer: nothing interrupts a model that does not end one."""
MOST_ACTIONS = 1000
"""Actions of the longest answer."""
MOST_NUMBERS = 64
"""Numbers of an action, at most."""
POSE_GROUPS = (range(3), range(3, 6))
"""Position, then rotation, of an action that is a step of the end effector, one id a number."""


def motion_of(groups: Sequence[range]) -> slice:
    """Returns the positions of an answer whose tokens have a distance; empty without groups.

    Args:
        groups: `AnswerFormat.groups`, each beginning where the previous one ends.
    """
    return slice(groups[0].start, groups[-1].stop) if groups else slice(0, 0)


class AnswerFormat(Protocol):
    """The format of an answer: its ids, its end, and which of its tokens may differ slightly.

    Attributes:
        action_ids: token ids that encode actions; a stop id is not one.
        max_tokens: tokens of the longest answer, the stop id included.
        counted: an answer always has `max_tokens` tokens, so none need be read before the last one
            is known.
        groups: consecutive ranges of positions whose tokens are accepted together (`POSE_GROUPS`);
            empty if no two tokens have a distance. A position outside must be equal; the one after
            the last group, if there is one, is the gripper's.
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
        """Whether an answer ends with the last of these tokens; true for any `max_tokens` tokens.

        It is called after every token, so it must be cheap.
        """
        ...

    def distance(self, token: int, greedy: int, position: int) -> int | None:
        """Returns the distance of a token from the model's own.

        Args:
            token: a token id.
            greedy: the model's own token id at this position.
            position: position within the answer.

        Returns:
            Distance in bins; 0 for the same id; None if they differ and ids have no order.
        """
        ...


@runtime_checkable
class PlacedActions(Protocol):
    """The part of an `AnswerFormat` whose actions have no fixed position, yet ids with an order.

    Attributes:
        action_groups: as `AnswerFormat.groups`, counted from the first id of an action.
    """

    @property
    def action_groups(self) -> tuple[range, ...]: ...  # noqa: D102

    def place(self, tokens: Sequence[int]) -> int:
        """Returns the place, within its action, of the id that would follow these tokens."""
        ...

    def distance(self, token: int, greedy: int, position: int) -> int | None:
        """Computes `AnswerFormat.distance`, where `position` is the place within the action."""
        ...


@runtime_checkable
class SpannedActions(Protocol):
    """The part of an `AnswerFormat` whose ids each stand for several numbers of a transform.

    Attributes:
        action_ids: as `AnswerFormat.action_ids`.
        dimensions: as `ActionCodec.dimensions`.
        steps: [H * D], the most that one step of each coefficient moves a number of any action,
            bins of 2 / 255 of its range; coefficient i moves number i modulo D. Infinite for the
            gripper's, which are never relaxed.
    """

    @property
    def action_ids(self) -> range: ...  # noqa: D102

    @property
    def dimensions(self) -> int: ...  # noqa: D102

    @property
    def steps(self) -> tuple[float, ...]: ...  # noqa: D102

    def finished(self, tokens: Sequence[int]) -> bool:
        """Implements `AnswerFormat.finished`."""
        ...

    def span(self, token: int) -> tuple[int, ...]:
        """Returns the coefficients that an id stands for; none for text and parts of one."""
        ...


class ActionCodec(AnswerFormat, Protocol):
    """Converts answers to actions in robot units, and back.

    Attributes:
        horizon: number of actions in an answer (H), one per control step.
        dimensions: numbers in an action (D), the last one the gripper's.
        action_space: what the others are: "end_effector" (a step of its pose), "joint_velocity",
            "joint_position"; empty if the model's files do not say.
    """

    @property
    def action_space(self) -> str: ...  # noqa: D102

    @property
    def horizon(self) -> int: ...  # noqa: D102

    @property
    def dimensions(self) -> int: ...  # noqa: D102

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Decodes a finished answer to actions [H, D], in robot units.

        Raises:
            AnswerError: the answer encodes no actions. It is never repaired by a guess, least of
                all by zeros.
        """
        ...

    def encode(self, chunk: ArrayLike) -> tuple[int, ...]:
        """Encodes actions [H, D] in robot units as an answer, to the precision of the ids."""
        ...

"""What retrieved entries and the last command agree on.

Entries of other episodes were made a centimetre or so elsewhere, and the model's own answer jitters
from step to step by as much. Their mean is nearer to what it will say than any one of them, and
the last command, of this very episode, is the best vote of all where the motion is smooth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def votes_of(
    entries: NDArray[np.int64], last: Sequence[int] | None, momentum: int
) -> NDArray[np.int64]:
    """All votes on the next command.

    Args:
        entries: [K, 7] token ids, best first.
        last: the 7 token ids of the last command; None at an episode's start.
        momentum: how many votes the last command has.

    Returns:
        [K + momentum, 7], or the entries alone at an episode's start.
    """
    if last is None or momentum == 0:
        return entries
    return np.concatenate([entries, np.tile(np.asarray(last, np.int64), (momentum, 1))])


def consensus_of(votes: NDArray[np.int64]) -> tuple[int, ...]:
    """The mean vote, token by token; the gripper is the first vote's, never a mean."""
    tokens = np.rint(votes.mean(axis=0)).astype(np.int64)
    tokens[-1] = votes[0, -1]
    return tuple(tokens.tolist())

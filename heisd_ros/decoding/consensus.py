"""The consensus of retrieved entries.

Entries of other episodes were recorded about a centimetre away, and the model's own answer jitters
by as much from step to step. Their mean is often closer to its next answer than any single entry.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heisd_ros.vla.action_codec import POSE_GROUPS, motion_of


def consensus_of(
    entries: NDArray[np.int64], groups: Sequence[range] = POSE_GROUPS
) -> NDArray[np.int64]:
    """Averages entries token by token; tokens without a mean are those of the first entry.

    Args:
        entries: [K, N] token ids, best first.
        groups: `AnswerFormat.groups`, the positions at which ids have a mean.
    """
    motion, tokens = motion_of(groups), entries[0].copy()
    tokens[motion] = np.rint(entries[:, motion].mean(axis=0))
    return tokens

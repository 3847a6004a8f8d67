"""What retrieved entries agree on.

Entries of other episodes were made a centimetre or so elsewhere, and the model's own answer jitters
from step to step by as much. Their mean is often nearer to what it will say than any one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heisd_ros.vla.action_codec import POSE_GROUPS, motion_of


def consensus_of(
    entries: NDArray[np.int64], groups: Sequence[range] = POSE_GROUPS
) -> NDArray[np.int64]:
    """The mean of entries [K, N], best first, token by token; what has no mean is the first one's.

    Args:
        entries: token ids.
        groups: `AnswerFormat.groups`: where ids have a mean.
    """
    motion, tokens = motion_of(groups), entries[0].copy()
    tokens[motion] = np.rint(entries[:, motion].mean(axis=0))
    return tokens

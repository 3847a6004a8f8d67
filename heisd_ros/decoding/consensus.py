"""What retrieved entries agree on.

Entries of other episodes were made a centimetre or so elsewhere, and the model's own answer jitters
from step to step by as much. Their mean is often nearer to what it will say than any one of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def consensus_of(entries: NDArray[np.int64]) -> tuple[int, ...]:
    """The mean of entries [K, 7], best first, token by token; the gripper is the first one's."""
    tokens = np.rint(entries.mean(axis=0)).astype(np.int64)
    tokens[-1] = entries[0, -1]
    return tuple(tokens.tolist())

"""Statistics over episodes."""

from __future__ import annotations

import math


def wilson_interval(successes: int, episodes: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a success rate (95% by default).

    Args:
        successes: Successful episodes.
        episodes: All episodes.
        z: Quantile of the normal distribution.

    Returns:
        Lower and upper bound, in [0, 1]; (0, 1) without episodes.

    Raises:
        ValueError: More successes than episodes, or a negative number.
    """
    if not 0 <= successes <= episodes:
        raise ValueError(f"successes must be in 0..{episodes} (the episodes), got {successes}")
    if episodes == 0:
        return 0.0, 1.0
    rate = successes / episodes
    scale = 1 + z * z / episodes
    centre = rate + z * z / (2 * episodes)
    spread = z * math.sqrt(rate * (1 - rate) / episodes + z * z / (4 * episodes * episodes))
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)

"""By how much the clocks of a recording's topics differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from heisd_ros.data.read_report import SECOND

SUSPICIOUS, FUTURE = 0.5, 0.05
"""Stamps that are further apart, s, against their reception, or that lie further ahead of it,
are of different clocks: what pictures need to be taken, compressed and sent is less."""


def offset(ahead: Sequence[int] | np.ndarray) -> float:
    """How far header stamps are ahead of their reception, s: the median of `ahead`, ns."""
    return float(np.median(ahead)) / SECOND


def spread(offsets: Mapping[str, float]) -> float:
    """How far the clocks of some topics are apart, s."""
    return max(offsets.values()) - min(offsets.values()) if offsets else 0.0


def differ(offsets: Mapping[str, float], tolerance: float) -> bool:
    """Whether the clocks of topics differ, though their steps may seem to fit.

    Args:
        offsets: Of each topic.
        tolerance: By how much stamps of a step may differ, s.
    """
    ahead = max(offsets.values(), default=0.0)
    return spread(offsets) > (tolerance if ahead > FUTURE else SUSPICIOUS)


def describe(offsets: Mapping[str, float], tolerance: float) -> str:
    """Says by how much the clocks of topics differ, and what to do.

    Args:
        offsets: Of each topic.
        tolerance: By how much stamps of a step may differ, s.
    """
    each = ", ".join(f"{topic} {seconds:+.3f} s" for topic, seconds in offsets.items())
    return (
        f"the clocks of the topics differ by {spread(offsets):.3f} s: header stamps against their "
        f"reception are {each}; a step needs them within {tolerance:g} s: synchronise the clocks, "
        "or let each driver stamp with ROS time"
    )

"""Differences between the clocks of a recording's topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from heisd_ros.data.read_report import SECOND

SUSPICIOUS, FUTURE = 0.5, 0.05
"""Stamps whose offsets from reception differ by more than the first, s, or that are ahead of it by
more than the second, are of different clocks: capture, compression and transport take less."""


def offset(ahead: Sequence[int] | np.ndarray) -> float:
    """Returns how far header stamps are ahead of their reception, s: the median of `ahead`, ns."""
    return float(np.median(ahead)) / SECOND


def spread(offsets: Mapping[str, float]) -> float:
    """Returns how far the clocks of some topics are apart, s."""
    return max(offsets.values()) - min(offsets.values()) if offsets else 0.0


def differ(offsets: Mapping[str, float], tolerance: float) -> bool:
    """Whether the clocks of topics differ, even if their steps seem to fit.

    Args:
        offsets: Offset of each topic, s.
        tolerance: By how much stamps of a step may differ, s.
    """
    ahead = max(offsets.values(), default=0.0)
    return spread(offsets) > (tolerance if ahead > FUTURE else SUSPICIOUS)


def describe(offsets: Mapping[str, float], tolerance: float) -> str:
    """Says by how much the clocks of topics differ, and what to do.

    Args:
        offsets: Offset of each topic, s.
        tolerance: By how much stamps of a step may differ, s.
    """
    each = ", ".join(f"{topic} {seconds:+.3f} s" for topic, seconds in offsets.items())
    return (
        f"the clocks of the topics differ by {spread(offsets):.3f} s: header stamps against their "
        f"reception are {each}; a step needs them within {tolerance:g} s: synchronise the clocks, "
        "or let each driver stamp with ROS time"
    )

"""Whether a mode fails more episodes than the plain loop: tests that may be stopped at any time.

From one initial state both run, and D = failure of the mode less failure of the plain loop, in
{-1, 0, 1}. The claim to be refuted is E[D] >= margin, on fresh states. It is bet against, episode
by episode (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
arXiv 2010.09686): while it is true, the wealth of the bets is expected not to grow, so it reaches
1/delta with a chance of at most delta (Ville), whenever one stops. Settings stand on a path that is
written down beforehand, and each is tested only after the one before it passed (fixed-sequence
testing, arXiv 2110.01052): the chance that any setting passes whose excess is the margin or more is
at most delta, over the whole path.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MOST = 0.75
"""Largest share of the stake that keeps the wealth positive, as truncated in the paper."""
_PRIOR = 1000
"""Number of pseudo-pairs without an excess from which stakes start."""


def excess_failures(mode: Sequence[bool], base: Sequence[bool]) -> NDArray[np.int64]:
    """Returns D of each pair, in {-1, 0, 1}, from the successes of both.

    Raises:
        ValueError: The numbers of episodes differ.
    """
    if len(mode) != len(base):
        raise ValueError(f"{len(mode)} and {len(base)} episodes; paired ones are needed")
    return np.asarray(base, dtype=np.int64) - np.asarray(mode, dtype=np.int64)


def wealth(differences: ArrayLike, margin: float) -> NDArray[np.float64]:
    """Returns the wealth of the bets against E[D] >= margin, after each pair.

    Args:
        differences: [n], in [-1, 1], in the order in which they were run.
        margin: In (-1, 1).

    Returns:
        [n].

    Raises:
        ValueError: A difference or the margin is out of range.
    """
    if not -1.0 < margin < 1.0:
        raise ValueError(f"margin must be in (-1, 1), got {margin}")
    # Without an excess the mean is one half; the claim allows at most this mean.
    values, mean = 1.0 - _unit(differences), (1.0 - margin) / 2.0
    return np.asarray(np.cumprod(1.0 + _stakes(values, mean) * (values - mean)))


def upper_bound(differences: ArrayLike, delta: float = 0.1, grid: int = 401) -> float:
    """Returns an upper bound of E[D] with confidence 1 - delta, valid at any time.

    Args:
        differences: [n], in [-1, 1].
        delta: Probability of an error.
        grid: Number of margins that are tried.
    """
    for margin in np.linspace(-1.0, 1.0, grid + 2)[1:-1]:
        if not (wealth(differences, float(margin)) >= 1.0 / delta).any():
            continue
        return float(margin)
    return 1.0


def fixed_sequence(
    path: Sequence[ArrayLike], margin: float = 0.05, delta: float = 0.1
) -> int | None:
    """Returns the last setting of a path up to which every excess is shown below the margin.

    Args:
        path: Differences of each setting, in the order written down beforehand.
        margin: Excess that a setting must stay below.
        delta: Probability that a setting passes whose excess is the margin or more.

    Returns:
        Its number; None if the first one is not shown.
    """
    passed = None
    for number, differences in enumerate(path):
        if not (wealth(differences, margin) >= 1.0 / delta).any():
            break
        passed = number
    return passed


def _unit(differences: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not ((values >= -1.0) & (values <= 1.0)).all():
        raise ValueError("differences must be a row of numbers in [-1, 1]")
    return np.asarray((values + 1.0) / 2.0)


def _stakes(values: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Returns the paper's approximation of the stakes of largest growth (aGRAPA, section B.3).

    Each one depends only on earlier pairs.
    """
    count = np.arange(1, len(values) + 1)
    means = (0.5 * _PRIOR + np.cumsum(values)) / (_PRIOR + count)
    variances = (0.25 + np.cumsum((values - means) ** 2)) / (1 + count)
    before = np.concatenate([[0.5], means[:-1]]), np.concatenate([[0.25], variances[:-1]])
    gap = np.maximum(before[0] - mean, 0.0)
    return np.asarray(np.minimum(gap / (before[1] + gap**2), _MOST / mean))

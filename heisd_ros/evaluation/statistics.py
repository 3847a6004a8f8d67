"""Statistics over episodes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest


def wilson_interval(successes: int, episodes: int) -> tuple[float, float]:
    """Wilson's score interval of a success rate, 95%.

    Args:
        successes: Successful episodes.
        episodes: All episodes.

    Returns:
        Lower and upper bound, in [0, 1]; (0, 1) without episodes.

    Raises:
        ValueError: More successes than episodes, or a negative number.
    """
    if not 0 <= successes <= episodes:
        raise ValueError(f"successes must be in 0..{episodes} (the episodes), got {successes}")
    if episodes == 0:
        return 0.0, 1.0
    interval = binomtest(successes, episodes).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


class Estimate(NamedTuple):
    """A number with its 95% interval."""

    value: float
    low: float
    high: float


def paired_difference(both: int, first: int, second: int, neither: int) -> Estimate:
    """Difference of two success rates over the same episodes, first minus second.

    Newcombe's hybrid score interval for paired proportions (Statistics in Medicine 17, 1998, pages
    2635 to 2650, method 10): it keeps its level for few episodes and for rates near 0 or 1.

    Args:
        both: Pairs in which both succeeded.
        first: Pairs in which the first alone succeeded.
        second: Pairs in which the second alone succeeded.
        neither: Pairs in which none succeeded.

    Returns:
        The difference in [-1, 1] and its interval; 0 and the whole range without pairs.
    """
    pairs = both + first + second + neither
    if pairs == 0:
        return Estimate(0.0, -1.0, 1.0)
    one, two = both + first, both + second
    rate_one, rate_two = one / pairs, two / pairs
    low_one, high_one = wilson_interval(one, pairs)
    low_two, high_two = wilson_interval(two, pairs)
    correlation = _correlation(both, first, second, neither)

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2.0 * correlation * a * b + b * b))

    difference = rate_one - rate_two
    return Estimate(
        difference,
        max(-1.0, difference - reach(rate_one - low_one, high_two - rate_two)),
        min(1.0, difference + reach(high_one - rate_one, rate_two - low_two)),
    )


def _correlation(both: int, first: int, second: int, neither: int) -> float:
    """Newcombe's phi, drawn towards 0 by half a pair where it is positive."""
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    if margins == 0:
        return 0.0
    product = float(both * neither - first * second)
    if product > 0.0:
        product = max(product - (both + first + second + neither) / 2, 0.0)
    return product / math.sqrt(margins)


def mcnemar(first: int, second: int) -> float:
    """McNemar's exact two-sided p-value, from the pairs in which one alone succeeded.

    Returns:
        The chance of a split at least so uneven if both were equally good; 1 without such pairs.
    """
    if first + second == 0:
        return 1.0
    return float(binomtest(first, first + second).pvalue)


class Clusters:
    """Numbers that come in clusters, as steps come in episodes, for resampling whole clusters.

    Args:
        values: One array of numbers a cluster, none of them empty.

    Raises:
        ValueError: A cluster is empty, or there is none.
    """

    def __init__(self, values: list[NDArray[np.float64]]) -> None:
        sizes = [len(cluster) for cluster in values]
        if not sizes or min(sizes) == 0:
            raise ValueError(f"clusters must hold numbers each, got sizes {sizes}")
        flat = np.concatenate(values)
        order = np.argsort(flat, kind="stable")
        self._sorted = flat[order]
        self._cluster = np.repeat(np.arange(len(sizes)), sizes)[order]
        self._sums = np.array([cluster.sum() for cluster in values])
        self._sizes = np.array(sizes)

    def __len__(self) -> int:
        """Returns the number of clusters."""
        return len(self._sizes)

    def median(self, counts: NDArray[np.int64]) -> float:
        """Median of all numbers, each cluster taken `counts` [clusters] times."""
        reached = np.cumsum(counts[self._cluster])
        # Lower and upper median are the same number unless their count is even.
        below, above = (reached[-1] + 1) // 2, reached[-1] // 2 + 1
        return float(self._sorted[np.searchsorted(reached, (below, above))].mean())

    def mean(self, counts: NDArray[np.int64]) -> float:
        """Mean of all numbers, each cluster taken `counts` [clusters] times."""
        return float(counts @ self._sums / (counts @ self._sizes))


class Ratios(NamedTuple):
    """How much smaller one group of numbers is than another."""

    median: Estimate
    mean: Estimate


def paired_ratios(base: Clusters, other: Clusters, seed: int = 0, resamples: int = 1000) -> Ratios:
    """Ratios of medians and of means, base over other, with percentile bootstrap intervals.

    Pairs of clusters are drawn together: a hard episode, or a busy moment of the machine, is drawn
    for both or for neither.

    Args:
        base: Numerator; cluster i is paired with cluster i of `other`.
        other: Denominator.
        seed: Seed of the resampling.
        resamples: Resamples drawn.

    Raises:
        ValueError: The numbers of clusters differ.
    """
    pairs = len(base)
    if len(other) != pairs:
        raise ValueError(f"{pairs} and {len(other)} clusters; paired ones are needed")
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(pairs, np.full(pairs, 1.0 / pairs), size=resamples)
    once = np.ones(pairs, np.int64)

    def estimate(statistic: str) -> Estimate:
        def ratio(counts: NDArray[np.int64]) -> float:
            return float(getattr(base, statistic)(counts) / getattr(other, statistic)(counts))

        low, high = np.percentile([ratio(counts) for counts in draws], (2.5, 97.5))
        return Estimate(ratio(once), float(low), float(high))

    return Ratios(median=estimate("median"), mean=estimate("mean"))

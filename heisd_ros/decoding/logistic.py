"""A logistic model of some terms, any of which may be missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RIDGE = 1.0


@dataclass(frozen=True)
class Logistic:
    """log-odds = offset + sum of weight * (term - mean) / scale; a missing term counts as its mean.

    Attributes:
        mean: [d].
        scale: [d], 0 where a term never differs, and has no say.
        weights: [d], of terms in units of their deviation, so that they can be compared.
        offset: log-odds of a step whose terms are all at their mean.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    offset: float

    @classmethod
    def fit(cls, terms: NDArray[np.float64], passed: NDArray[np.bool_]) -> Logistic:
        """Greatest likelihood with a small ridge, by Newton's method.

        Args:
            terms: [n, d].
            passed: [n].
        """
        known = np.isfinite(terms)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, terms, 0.0).sum(axis=0) / count
        away = np.where(known, terms - mean, 0.0)
        scale = np.sqrt((away**2).sum(axis=0) / count)
        columns = np.column_stack([_scaled(away, scale), np.ones(len(terms))])
        ridge = _RIDGE * np.diag([*np.ones(terms.shape[1]), 0.0])
        weights = np.zeros(columns.shape[1])
        for _ in range(50):
            chance = _chance(columns @ weights)
            slope = columns.T @ (passed - chance) - ridge @ weights
            curve = (columns * (chance * (1.0 - chance))[:, None]).T @ columns + ridge
            step = np.linalg.solve(curve + 1e-9 * np.eye(len(weights)), slope)
            weights = weights + step
            if np.abs(step).max() < 1e-8:
                break
        return cls(mean, scale, weights[:-1], float(weights[-1]))

    def __call__(self, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the chance of each row of terms, [n] of [n, d] or a scalar of [d]."""
        return _chance(self.contributions(terms).sum(axis=-1) + self.offset)

    def contributions(self, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns what each term adds to the log-odds, in the shape of the terms."""
        away = np.where(np.isfinite(terms), terms - self.mean, 0.0)
        return _scaled(away, self.scale) * self.weights


def _scaled(away: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(away, scale, out=np.zeros_like(away), where=scale > 0.0))


def _chance(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -40.0, 40.0))))

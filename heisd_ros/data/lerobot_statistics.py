"""Statistics of features, as LeRobot keeps them for the normalisation of a model's inputs.

The keys are those of huggingface/lerobot, `datasets/compute_stats.py`. Quantiles are exact here, of
an episode and of the data set; LeRobot keeps bounds of the episodes' instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
_SAMPLES = 100
"""Pictures of an episode that are counted, at most."""

Statistics = dict[str, Any]
"""Lists of numbers by `min`, `max`, `mean`, `std`, `count`, `q01`, `q10`, ..."""


def of_numbers(values: np.ndarray) -> Statistics:
    """Computes the statistics of each column of an array (T,) or (T, n)."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    found = {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "count": np.array([len(rows)]),
    }
    for share, row in zip(QUANTILES, np.quantile(rows, QUANTILES, axis=0), strict=True):
        found[_key(share)] = row
    return {key: value.tolist() for key, value in found.items()}


def histogram(pictures: np.ndarray) -> tuple[np.ndarray, int]:
    """Counts the values of some pictures, evenly chosen.

    Args:
        pictures: (T, H, W, 3) uint8.

    Returns:
        Counts (3, 256) by channel and value, and the number of pictures.
    """
    chosen = np.unique(np.linspace(0, len(pictures) - 1, _SAMPLES).round().astype(int))
    counts = np.zeros((3, 256), np.int64)
    for place in chosen:
        for channel in range(3):
            counts[channel] += np.bincount(pictures[place, ..., channel].ravel(), minlength=256)
    return counts, len(chosen)


def of_pictures(counts: np.ndarray, pictures: int) -> Statistics:
    """Computes the statistics of each channel, in the range 0 to 1, of shape (3, 1, 1).

    Args:
        counts: (3, 256) by channel and value.
        pictures: Number of pictures that were counted.
    """
    values = np.arange(256) / 255.0
    share = counts / counts.sum(axis=1, keepdims=True)
    below = share.cumsum(axis=1)
    mean = share @ values
    found = {
        "min": values[(counts > 0).argmax(axis=1)],
        "max": values[255 - (counts[:, ::-1] > 0).argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(share @ values**2 - mean**2, 0.0)),
    }
    for quantile in QUANTILES:
        found[_key(quantile)] = values[(below >= quantile - 1e-12).argmax(axis=1)]
    shaped = {key: value.reshape(3, 1, 1).tolist() for key, value in found.items()}
    return shaped | {"count": [pictures]}


def _key(quantile: float) -> str:
    return f"q{round(quantile * 100):02d}"

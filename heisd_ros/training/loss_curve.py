"""A picture of a training run's losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def draw_losses(losses: Sequence[tuple[int, float, float]], path: Path) -> None:
    """Writes the loss curves as PNG.

    Args:
        losses: Rows of step, action loss (nats), landmark loss.
        path: File to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps, action, landmarks = np.array(losses, dtype=np.float64).T
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), constrained_layout=True)
    for axis, values, label in (
        (axes[0], action, "action cross-entropy, nats"),
        (axes[1], landmarks, "landmark loss"),
    ):
        width = max(1, len(values) // 100)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axis.plot(steps, values, color="0.8", linewidth=0.6)
        axis.plot(steps[width - 1 :], smooth, linewidth=1.5)
        axis.set(xlabel="optimiser step", ylabel=label, yscale="log")
        axis.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)

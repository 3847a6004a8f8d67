"""A picture of a training run's losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def draw_losses(losses: Sequence[tuple[float, ...]], path: Path) -> None:
    """Writes the loss curves as PNG.

    Args:
        losses: Rows of step, action loss (nats), landmark loss, text loss (nats).
        path: File to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps, action, landmarks, text = np.array(losses, dtype=np.float64).T
    curves = [(action, "action cross-entropy, nats"), (landmarks, "landmark loss")]
    if text.any():
        curves.append((text, "text cross-entropy, nats"))
    figure, axes = pyplot.subplots(
        1, len(curves), figsize=(4.5 * len(curves), 3.2), constrained_layout=True
    )
    for axis, (values, label) in zip(axes, curves, strict=True):
        width = max(1, len(values) // 100)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axis.plot(steps, values, color="0.8", linewidth=0.6)
        axis.plot(steps[width - 1 :], smooth, linewidth=1.5)
        axis.set(xlabel="optimiser step", ylabel=label, yscale="log")
        axis.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)

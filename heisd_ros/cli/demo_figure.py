"""The demo's picture: camera frames of an episode in a strip, and the path of the end effector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from heisd_ros.nodes.tools.demo_monitor import Frame


def save_strip(path: Path, title: str, frames: Sequence[Frame], columns: int = 6) -> None:
    """Draws evenly spaced frames over the tip's path seen from above and from the side.

    Args:
        path: PNG file to write.
        title: Headline.
        frames: Pictures with where the tip was, one a step.
        columns: Number of frames shown.
    """
    from matplotlib.figure import Figure

    tips = np.stack([frame.tip for frame in frames])
    chosen = np.unique(np.linspace(0, len(frames) - 1, columns).round().astype(int))
    figure = Figure(figsize=(2.2 * columns, 6.2), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.4))
    strip, plots = parts
    figure.suptitle(title)
    for axes, index in zip(strip.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        axes.imshow(frames[index].pixels)
        axes.set_title(f"step {index}", fontsize=9)
        axes.axis("off")
    views = (("from above", 0, 1), ("from the side", 0, 2))
    for axes, (view, across, up) in zip(plots.subplots(1, 2), views, strict=True):
        axes.plot(tips[:, across], tips[:, up], color="0.7", linewidth=1)
        points = axes.scatter(tips[:, across], tips[:, up], c=np.arange(len(tips)), s=8)
        for index in chosen:
            axes.annotate(str(index), (tips[index, across], tips[index, up]), fontsize=8)
        axes.set(xlabel=f"{'xyz'[across]} (m)", ylabel=f"{'xyz'[up]} (m)")
        axes.set_title(f"end effector {view}", fontsize=9)
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(alpha=0.3)
    plots.colorbar(points, ax=plots.axes, label="step")
    figure.savefig(path, dpi=90)

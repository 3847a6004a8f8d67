"""A figure of a source's content: camera views, joints and actions of its first episode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from heisd_ros.data.source import Source
from heisd_ros.errors import DemonstrationError

COLUMNS = 6
AXES = ("x", "y", "z", "rx", "ry", "rz", "gripper")


def draw(source: Source, path: Path) -> None:
    """Draws the first episode.

    Args:
        source: What is drawn.
        path: The PNG.

    Raises:
        HeisdError: The source cannot be read.
        OSError: The PNG cannot be written.
    """
    if not source.outline():
        raise DemonstrationError(f"{source.label} holds no episode to draw")
    names = source.cameras
    episode = source.episode(0, names)
    figure = Figure(figsize=(2.2 * COLUMNS, 2.2 * len(names) + 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(names) + 2, COLUMNS)
    chosen = np.linspace(0, len(episode) - 1, COLUMNS).astype(int)
    seconds = np.arange(len(episode)) * episode.stride / (source.rate_hz or 20.0)
    for row, view in enumerate(names):
        for column, step in enumerate(chosen):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(episode.images[view][step])
            axes.set_title(f"{view}, {seconds[step]:.1f} s", fontsize=8)
            axes.axis("off")
    for row, (name, curves, labels) in enumerate(
        (
            ("joints (rad)", episode.joint_positions, source.arm.joint_names),
            ("action", episode.actions, AXES),
        )
    ):
        axes = figure.add_subplot(grid[len(names) + row, :])
        for curve, label in zip(curves.T, labels, strict=True):
            axes.plot(seconds, curve, label=label, linewidth=1)
        axes.set_ylabel(name)
        axes.legend(fontsize=6, ncols=4)
    axes.set_xlabel("s")
    figure.suptitle(f"{source.label}: {episode.instruction}")
    figure.savefig(path, dpi=100)

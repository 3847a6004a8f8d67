"""Pictures of a demo episode: a strip of camera frames with the tip's path, and a film."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heisd_ros.decoding.types import Source

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


def save_film(path: Path, title: str, frames: Sequence[Frame], rate_hz: float = 10.0) -> None:
    """Animates camera frames beside the tip's path, coloured by what decided each step.

    Args:
        path: GIF or WebP file to write.
        title: Headline.
        frames: Pictures with where the tip was and what decided, one a step; every second is shown.
        rate_hz: Pictures a second.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    from matplotlib.animation import FuncAnimation, PillowWriter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 3.6), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=10)
    camera, path_axes = figure.subplots(1, 2)
    camera.axis("off")
    camera.set_title("step 0", fontsize=9)
    picture = camera.imshow(frames[0].pixels)
    tips = np.stack([frame.tip for frame in frames])
    colours = [frame.source.colour for frame in frames]
    for source in sorted({frame.source for frame in frames}, key=list(Source).index):
        path_axes.scatter([], [], color=source.colour, s=12, label=source.label)
    points = path_axes.scatter(tips[:, 0], tips[:, 2], c=colours, s=12)
    path_axes.set(xlabel="x (m)", ylabel="z (m)")
    path_axes.set_aspect("equal", adjustable="datalim")
    path_axes.grid(alpha=0.3)
    path_axes.set_title("end effector from the side", fontsize=9)
    figure.legend(fontsize=7, loc="outside lower center", ncols=3)

    def show(index: int) -> None:
        picture.set_data(frames[index].pixels)
        camera.set_title(f"step {index}", fontsize=9)
        points.set_offsets(tips[: index + 1, ::2])

    # The layout is settled by the whole path, then left alone: nothing moves but what happens.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    last = len(frames) - 1
    shown = [*range(0, last, 2), *[last] * int(rate_hz)]
    FuncAnimation(figure, show, frames=shown, init_func=lambda: None).save(
        path, writer=PillowWriter(fps=round(rate_hz))
    )

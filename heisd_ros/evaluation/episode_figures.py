"""Plots of single episodes: the path, the metric, and the source of each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from heisd_ros.decoding.types import Source
from heisd_ros.evaluation.accounting import Row
from heisd_ros.sim.scene import CONTROL_RATE_HZ


def tip_paths(rows: Sequence[Row]) -> Figure:
    """Plots the end effector's path from above and from the side, coloured by source.

    Args:
        rows: Episodes, one a column; `title` stands in place of mode, task and state.
    """
    figure = Figure(figsize=(4.1 * len(rows) + 0.4, 7.0), layout="constrained")
    grid = figure.subplots(2, len(rows), squeeze=False)
    for column, row in enumerate(rows):
        tips = np.array(row["tip_mm"], np.float64) / 10.0
        colours = [_source(letter).colour for letter in row["source"]]
        for axes, (view, across, up) in zip(
            grid[:, column], (("from above", 0, 1), ("from the side", 0, 2)), strict=True
        ):
            points = tips[:, [across, up]]
            segments = np.stack([points[:-1], points[1:]], axis=1)
            axes.add_collection(LineCollection(list(segments), colors=colours[:-1], linewidths=1.6))
            axes.scatter(*points.T, c=colours, s=11, zorder=3)
            axes.plot(*points[0], "o", mfc="white", mec="black", ms=8, zorder=4)
            for step in row["gripper_steps"]:
                axes.plot(*points[step], "v", color="black", ms=7, zorder=5)
            axes.set(xlabel=f"{'xyz'[across]}, cm", ylabel=f"{'xyz'[up]}, cm")
            axes.set_aspect("equal", adjustable="datalim")
            axes.grid(alpha=0.3)
            axes.set_title(
                f"{_title(row)}\n{view}" if axes is grid[0, column] else view, fontsize=9
            )
    marks = [
        Line2D([], [], marker="o", mfc="white", mec="black", ls="", label="start"),
        Line2D([], [], marker="v", color="black", ls="", label="gripper command changes"),
    ]
    used = set("".join(row["source"] for row in rows))
    figure.legend(
        handles=[*_source_handles(used), *marks], loc="outside lower center", ncols=3, fontsize=9
    )
    return figure


def metric_over_time(rows: Sequence[Row], boundary: Mapping[str, Any]) -> Figure:
    """Plots F over time with the boundary and, below it, the source of each step.

    Args:
        rows: Episodes, one below the other; `title` as above, `rate_hz` that of LIBERO if absent.
        boundary: Its `value`, `hysteresis` and `metric`.
    """
    figure = Figure(figsize=(10.0, 2.1 * len(rows) + 0.7), layout="constrained")
    value, margin = boundary["value"], boundary["hysteresis"]
    for axes, row in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        rate_hz = row.get("rate_hz", CONTROL_RATE_HZ)
        seconds = np.arange(row["steps"] + 1) / rate_hz
        metric = np.array([np.nan if f is None else f for f in row["metric"]], np.float64)
        axes.plot(seconds[:-1], metric, color="black", linewidth=1.2)
        axes.axhline(value, color="#d55e00", linewidth=1.0, linestyle="--")
        axes.axhspan(value - margin, value + margin, color="#d55e00", alpha=0.15, linewidth=0)
        colours = [_source(letter).colour for letter in row["source"]]
        axes.bar(seconds[:-1], 0.1, 1.0 / rate_hz, bottom=-0.16, align="edge", color=colours)
        for step in row["gripper_steps"]:
            axes.axvline(seconds[step], color="black", linewidth=0.8, linestyle=":")
        axes.set(xlim=(0, seconds[-1]), ylim=(-0.18, 1.05), ylabel="F", yticks=(0, 0.5, 1))
        axes.set_title(_title(row), fontsize=9)
        axes.grid(alpha=0.3)
    axes.set_xlabel("time, s")
    marks = [
        Line2D([], [], color="black", label=f"F ({boundary['metric']})"),
        Line2D([], [], color="#d55e00", linestyle="--", label="boundary, with its hysteresis"),
        Line2D([], [], color="black", linestyle=":", label="gripper command changes"),
    ]
    used = set("".join(row["source"] for row in rows))
    figure.legend(
        handles=[*marks, *_source_handles(used)], loc="outside lower center", ncols=4, fontsize=9
    )
    return figure


def _title(row: Row) -> str:
    if "title" in row:
        return str(row["title"])
    outcome = "success" if row["success"] else "failure"
    drawn = f" varied by {row['variation']}" if row.get("variation") else ""
    return f"{row['mode']}, task {row['task_index']}, state {row['init_state']}{drawn}: {outcome}"


def _source_handles(used: set[str]) -> list[Line2D]:
    return [
        Line2D([], [], color=source.colour, marker="o", ms=5, label=source.label)
        for source in Source
        if source.letter in used
    ]


def _source(letter: str) -> Source:
    found = Source.named(letter)
    assert found is not None, f"no source begins with {letter!r}"
    return found

"""Plots that compare modes, from the summaries and rows of a results file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heisd_ros.evaluation.accounting import Row, answered
from heisd_ros.evaluation.pass_predictor import foretold, reliability

# Okabe and Ito's colours, which are distinct for any colour vision.
PART_COLOURS = {
    "preprocess": "#bbbbbb",
    "vision": "#56b4e9",
    "metric": "#000000",
    "retrieval": "#0072b2",
    "prefill": "#d55e00",
    "draft": "#f0e442",
    "verify": "#e69f00",
    "decode": "#cc79a7",
    "detokenise": "#666666",
}
BASE_COLOUR, OUR_COLOUR, OTHER_COLOUR = "#000000", "#d55e00", "#0072b2"

Modes = Mapping[str, Mapping[str, Any]]


def success_against_speedup(modes: Modes, base: str, ours: str = "heisd") -> Figure:
    """Plots every mode as a point with 95% intervals; up and to the right is better.

    Args:
        modes: Summaries by name, with `versus` the base.
        base: The mode that speedup is against.
        ours: The mode to stand out.
    """
    figure = Figure(figsize=(8.4, 5.0), layout="constrained")
    axes = figure.subplots()
    points: list[tuple[float, float, str]] = []
    for name, mode in modes.items():
        versus = mode.get("versus")
        if name != base and not versus:
            continue
        speed = versus["speedup_median"] if versus else {"value": 1.0, "low": 1.0, "high": 1.0}
        rate = 100.0 * mode["successes"] / mode["episodes"]
        low, high = (100.0 * bound for bound in mode["success_interval"])
        colour = {base: BASE_COLOUR, ours: OUR_COLOUR}.get(name, OTHER_COLOUR)
        axes.errorbar(
            speed["value"],
            rate,
            xerr=[[speed["value"] - speed["low"]], [speed["high"] - speed["value"]]],
            yerr=[[max(0.0, rate - low)], [max(0.0, high - rate)]],
            fmt="D" if name == ours else "s" if name == base else "o",
            color=colour,
            markersize=8 if name == ours else 6,
            elinewidth=0.7,
            alpha=0.9,
        )
        points.append((speed["value"], rate, name))
        if name == base:
            axes.axhline(rate, color=BASE_COLOUR, linewidth=0.8, linestyle=":")
            axes.axvline(1.0, color=BASE_COLOUR, linewidth=0.8, linestyle=":")
    axes.set(
        xlabel=f"speedup against {base}, ratio of median step times",
        ylabel="success, %",
        xscale="log",
    )
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.15)  # room for the names
    ticks = [t for t in (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24) if _inside(axes, t)]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    _label_apart(figure, axes, points)
    return figure


def success_by_task(rows: Sequence[Row], modes: Sequence[str]) -> Figure:
    """Plots success as a heat map of modes by tasks, with the numbers.

    Args:
        rows: The episodes.
        modes: Names of the modes, from top to bottom.
    """
    tasks = sorted({row["task_index"] for row in rows})
    found: dict[tuple[str, int], list[bool]] = {}
    for row in rows:
        found.setdefault((row["mode"], row["task_index"]), []).append(row["success"])
    rates = np.array(
        [[np.mean(found.get((mode, task), [np.nan])) for task in tasks] for mode in modes]
    )
    size = (2.2 + 0.75 * len(tasks), 1.0 + 0.42 * len(modes))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(100.0 * rates, cmap="viridis", vmin=0.0, vmax=100.0, aspect="auto")
    for (line, column), rate in np.ndenumerate(rates):
        cell = found.get((modes[line], tasks[column]), [])
        colour = "black" if rate > 0.6 else "white"
        text = f"{sum(cell)}/{len(cell)}" if cell else ""
        axes.text(column, line, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(tasks)), [str(task) for task in tasks])
    axes.set_yticks(range(len(modes)), modes)
    axes.set(xlabel="task")
    return figure


def latencies(modes: Modes, rows: Sequence[Row]) -> Figure:
    """Plots the distribution of step times and the parts of their mean, one line per mode.

    Args:
        modes: Summaries by name.
        rows: The episodes.
    """
    names = list(modes)
    figure = Figure(figsize=(11.0, 1.6 + 0.42 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    times = [
        np.concatenate([np.array(r["ms"])[answered(r)] for r in rows if r["mode"] == name])
        for name in names
    ]
    edges = np.geomspace(min(t.min() for t in times), 1.01 * max(t.max() for t in times), 90)
    for place, values in enumerate(times):
        counts, _ = np.histogram(values, edges)
        heights = 0.85 * counts / counts.max()
        left.stairs(place - heights, edges, baseline=place, fill=True, color="#56b4e9")
        for percent, mark in ((50, "o"), (95, "|"), (99, "x")):
            left.plot(np.percentile(values, percent), place - 0.1, mark, color="black", ms=6)
    left.set(xscale="log", xlabel="step time, ms (o median, | p95, x p99)")
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.4, -1.0)
    _plain_log_ticks(left)
    left.grid(alpha=0.3, axis="x")
    starts = np.zeros(len(names))
    for part, colour in PART_COLOURS.items():
        widths = np.array([modes[name]["parts_ms"].get(part, 0.0) for name in names])
        if widths.any():
            places = np.arange(len(names)) - 0.2
            right.barh(places, widths, 0.55, left=starts, color=colour, label=part)
        starts += widths
    right.set(xlabel="mean step time, ms, by part")
    right.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside lower right", fontsize=8, ncols=9)
    return figure


def ablation(modes: Modes, names: Sequence[str]) -> Figure:
    """Plots the gain of each added part: speedup and success of a sequence of modes.

    Args:
        modes: Summaries by name, with `versus` the base.
        names: The modes, in the order in which parts are added.
    """
    figure = Figure(figsize=(10.0, 0.9 + 0.5 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(names))
    for key, colour, shift in (
        ("speedup_median", "#0072b2", -0.2),
        ("speedup_mean", "#56b4e9", 0.2),
    ):
        speeds = [modes[name]["versus"][key] for name in names]
        values = np.array([speed["value"] for speed in speeds])
        errors = [
            values - [speed["low"] for speed in speeds],
            [speed["high"] for speed in speeds] - values,
        ]
        left.barh(
            places + shift,
            values,
            0.38,
            xerr=np.maximum(errors, 0.0),
            color=colour,
            label=f"of {key.removeprefix('speedup_')}s",
            error_kw={"elinewidth": 1.0, "ecolor": "black"},
        )
    left.axvline(1.0, color="black", linewidth=0.8, linestyle=":")
    left.set(xlabel=f"speedup against {modes[names[0]]['versus']['base']}")
    left.set_yticks(places, names)
    left.invert_yaxis()
    # Above the bars, the last of which is the longest.
    left.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    for place, name in enumerate(names):
        mode = modes[name]
        rate = 100.0 * mode["successes"] / mode["episodes"]
        low, high = (100.0 * bound for bound in mode["success_interval"])
        right.plot((low, high), (place, place), color="0.5", linewidth=1.5)
        right.plot(rate, place, "o", color=OUR_COLOUR)
    right.set(xlabel="success, %, with 95% interval", xlim=(0, 100))
    for axes in (left, right):
        axes.grid(alpha=0.3, axis="x")
    return figure


def reliability_of(rows: Sequence[Row]) -> Figure:
    """Plots how often drafts passed against the chance that the predictor gave them, by mode.

    Args:
        rows: Episodes of modes in which a predictor chooses.
    """
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=OTHER_COLOUR, linewidth=0.8, linestyle="--")
    for name in dict.fromkeys(row["mode"] for row in rows):
        said, passed = foretold([row for row in rows if row["mode"] == name])
        bins = reliability(said, passed)
        axes.plot([chance for chance, *_ in bins], [share for _, share, _ in bins], "o-")
        axes.annotate(f"{name}, {len(said)} steps", bins[-1][:2], ha="right")
    axes.set(xlabel="chance that was said", ylabel="share that passed", xlim=(0, 1), ylim=(0, 1))
    return figure


def _inside(axes: Axes, x: float) -> bool:
    low, high = axes.get_xlim()
    return low <= x <= high


def _plain_log_ticks(axes: Axes) -> None:
    """Sets ticks at 1, 2 and 5 of each decade."""
    low, high = axes.get_xlim()
    ticks = [m * 10.0**e for e in range(-3, 6) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _label_apart(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Labels points to their right, and moves a label up if it would cover another or a point."""
    figure.draw_without_rendering()
    # Pixels to points, in which offsets of annotations are given.
    places = axes.transData.transform([point[:2] for point in points]) * 72.0 / figure.dpi
    taken = [(left - 5.0, left + 5.0, base) for left, base in places]
    for i in np.argsort(places[:, 1], kind="stable"):
        (left, base), (x, y, name) = places[i], points[i]
        start, end, height = left + 8.0, left + 8.0 + 5.2 * len(name), base
        while any(abs(height - h) < 11.0 and a < end and start < b for a, b, h in taken):
            height += 1.0
        taken.append((start, end, height))
        moved = height - base > 6.0
        axes.annotate(
            name,
            (x, y),
            xytext=(8.0, height - base - 3.0),
            textcoords="offset points",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6} if moved else None,
        )

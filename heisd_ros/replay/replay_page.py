"""The HTML page of a replay: pictures of the recording, and the results of each mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from heisd_ros.evaluation import episode_figures, figures
from heisd_ros.evaluation.accounting import Row
from heisd_ros.evaluation.evaluation_page import OURS
from heisd_ros.evaluation.page import picture_of, write_page
from heisd_ros.evaluation.report_tables import reasons_table, table
from heisd_ros.replay.recorded import AXES
from heisd_ros.replay.run import REFERENCE
from heisd_ros.replay.sampled_pictures import Frame

_READING = """
<p class="note">The recording is fed through the inputs and the decoding of the node, on the clock
of the bag. No command has an effect on it: each step shows what a mode would do where the recorded
arm was, so a deviation does not add up over steps. docs/replay.md says what each figure means.</p>
"""
_COLUMNS = 8


def write_report(
    path: Path,
    results: Mapping[str, Any],
    latencies: Mapping[str, Any],
    rows: Sequence[Row],
    frames: Sequence[Frame],
    verdict: Sequence[str] = (),
) -> None:
    """Writes the page.

    Args:
        path: The HTML file.
        results: What `summarise` returns.
        latencies: What `summarise_latency` returns.
        rows: What `rows_of` returns.
        frames: Pictures of the recording.
        verdict: Lines at the top: problems, and figures that moved.
    """
    modes = {name: mode for name, mode in results["modes"].items() if mode["steps"]}
    parts = [_READING, _provenance(results, latencies)]
    parts += [f"<p>{escape(line)}</p>" for line in verdict]
    parts += [_decoding_table(modes, latencies), _inputs_table(results["modes"])]
    parts += [
        _deviation_table(modes, what)
        for what in ("ar", "recorded")
        if any(mode["deviation"][what] for mode in modes.values())
    ]
    if frames:
        parts.append(picture_of("What the cameras saw", _strip(frames), "Seconds into the replay."))
    if rows:
        timed = {name: {**mode, **latencies["modes"][name]} for name, mode in modes.items()}
        parts += [
            picture_of(
                "End-effector path by source",
                episode_figures.tip_paths(rows),
                "The recorded path: colour says who would have decided the step at each point.",
            ),
            *_metrics(modes, rows),
            picture_of(
                "Latency",
                figures.latencies(timed, rows),
                "Left: the distribution over all steps. Right: what a mean step is made of.",
            ),
            reasons_table(modes),
        ]
    write_page(path, "HeiSD: replay of a recording", parts)


def _provenance(results: Mapping[str, Any], latencies: Mapping[str, Any]) -> str:
    recording = results["recording"]
    facts = [
        f"bag {results['bag'][:12]}, {recording['seconds']:.1f} s",
        f"model {results['model'][:12]}",
        f"database {results['database'][:12]}" if results["database"] else "",
        f"drafter {results['drafter'][:12]}" if results["drafter"] else "",
        latencies["machine"],
        *(f"{name} from {topic}" for name, topic in recording["topics"].items()),
    ]
    return f'<p class="note">{escape("; ".join(fact for fact in facts if fact))}.</p>'


def _decoding_table(modes: Mapping[str, Any], latencies: Mapping[str, Any]) -> str:
    header = ["mode", "steps", "acceptance length", "passes a step", "skip rate", "wrong skips"]
    header += ["not judged", "gripper otherwise"]
    header += ["p50 ms", "p95 ms", "p99 ms", "mean ms", "compute ms"]
    lines = []
    for name, mode in modes.items():
        length, skips, times = mode["acceptance_length"], mode["skips"], latencies["modes"][name]
        lines.append(
            [
                str(mode["steps"]),
                "" if length is None else f"{length:.2f}",
                f"{mode['passes_per_step']:.2f}",
                f"{mode['skip_rate']:.1%}",
                f"{skips['wrong']}/{skips['judged']}" if skips["judged"] else "",
                str(skips["not judged"]) if skips["executed"] else "",
                str(skips["gripper"]) if skips["executed"] else "",
                *(f"{times['step_ms'][key]:.1f}" for key in ("p50", "p95", "p99", "mean")),
                f"{times['compute_ms']:.1f}",
            ]
        )
    return table(header, list(modes), lines, REFERENCE, OURS)


def _inputs_table(modes: Mapping[str, Any]) -> str:
    """Builds the table of sets, rejected messages and holds by reason, one line per mode."""
    counts = [
        {
            **{f"sets {name}": count for name, count in mode["inputs"]["sets"].items()},
            **{
                f"{name} rejected": sum(reasons.values())
                for name, reasons in mode["inputs"]["rejected"].items()
            },
            **{f"held: {reason}": count for reason, count in mode["holds"].items()},
        }
        for mode in modes.values()
    ]
    columns = list(dict.fromkeys(name for entry in counts for name in entry))
    lines = [[str(entry.get(name, 0)) for name in columns] for entry in counts]
    header = ["inputs", *map(escape, columns)]
    return table(header, list(modes), lines, REFERENCE, OURS)


def _deviation_table(modes: Mapping[str, Any], what: str) -> str:
    shown = {name: mode["deviation"][what] for name, mode in modes.items()}
    shown = {name: deviation for name, deviation in shown.items() if deviation}
    unit = next(iter(shown.values()))["unit"]
    axes = [axis for axis in AXES if axis in next(iter(shown.values()))["axes"]]
    header = [f"deviation from {what}<br><small>{unit}: mean / p95 / max</small>", "steps", *axes]
    lines = [
        [
            str(deviation["steps"]),
            *("{mean:.3f} / {p95:.3f} / {max:.3f}".format(**deviation["axes"][a]) for a in axes),
        ]
        for deviation in shown.values()
    ]
    return table(header, list(shown), lines, REFERENCE, OURS)


def _metrics(modes: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Plots the metric over time for each mode that uses it."""
    return [
        picture_of(
            f"Kinematic metric over time, {row['title']}",
            episode_figures.metric_over_time([row], modes[row["mode"]]["boundary"]),
            "Above the boundary the database drafts, below it the drafter; the stripe shows who "
            "would have decided each step.",
        )
        for row in rows
        if modes[row["mode"]]["boundary"] and any(f is not None for f in row["metric"])
    ]


def _strip(frames: Sequence[Frame]) -> Figure:
    """Draws evenly spaced pictures, one line per view."""
    places = np.unique(np.linspace(0, len(frames) - 1, _COLUMNS).round().astype(int))
    views = len(frames[0].images)
    figure = Figure(figsize=(1.5 * len(places), 1.6 * views + 0.3), layout="constrained")
    grid = figure.subplots(views, len(places), squeeze=False)
    for column, place in enumerate(places):
        for view, pixels in enumerate(frames[place].images):
            axes = grid[view, column]
            axes.imshow(pixels)
            axes.axis("off")
        grid[0, column].set_title(f"{frames[place].at / 1e9:.1f} s", fontsize=8)
    return figure

"""One self-contained HTML page about evaluations: tables and pictures, nothing to download."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from heisd_ros.decoding.modes import COMPILED
from heisd_ros.evaluation import episode_figures, figures
from heisd_ros.evaluation.accounting import Row, summarise
from heisd_ros.evaluation.by_task import by_task
from heisd_ros.evaluation.compare import compare
from heisd_ros.evaluation.page import picture_of, write_page
from heisd_ros.evaluation.report_tables import (
    decoding_table,
    overview_table,
    reasons_table,
    speed_table,
    tasks_table,
)
from heisd_ros.evaluation.results import BASE_MODE, LOADS

OURS = "heisd"
_EPISODES_SHOWN = 3
_IDLE_LOAD = 0.5
"""Load average of the last minute below which a machine counts as idle."""
_RUNGS = "ablation"
"""Prefix of the names of modes that are only steps of the ablation."""

_READING = """
<p class="note">A step's time runs from camera images to action: preprocessing, vision, retrieval,
every pass of the language model, and the kinematic metric where the mode uses it; rendering and
physics are not in it. Compute adds what a mode verifies while the arm moves; the speedup of
episodes compares that time over whole episodes, so that a mode which takes more steps gains less.
All modes ran each start back to back in one process, in shuffled order. Won and lost are the starts
that one alone solved. Intervals are 95%: Wilson's for success, a bootstrap over pairs of episodes
for speedup, Newcombe's for paired differences of success, in the table of tasks resampled starts; p
is McNemar's exact test. Acceptance length counts the steps whose draft was verified;
skip rate is the share of steps that the language model did not see before they were executed.</p>
"""


def write_report(
    results: Mapping[str, Mapping[str, Any]],
    path: Path,
    base: str = BASE_MODE,
    ablation: Sequence[str] = (),
) -> None:
    """Writes the page.

    Args:
        results: Contents of results files, by a name each.
        path: The HTML file.
        base: Mode that speedup and success are compared with.
        ablation: Modes of the ablation in the order in which parts are added; empty: those whose
            name begins with "ablation", and last `heisd`.

    Raises:
        ValueError: A file holds no finished episode.
    """
    for name, data in results.items():
        if not any(mode.get("steps") for mode in data["modes"].values()):
            raise ValueError(f"{name} holds no finished episode; run `heisd eval` first")
    ready = {name: _compared(data, base) for name, data in results.items()}
    parts = [_section(name, data, base, ablation) for name, data in ready.items()]
    if len(ready) > 1:
        modes = {name for data in ready.values() for name in data["modes"]}
        parts.insert(0, "<h2>Overview</h2>" + overview_table(ready, base, _ours(modes)))
    write_page(path, "HeiSD: decoding modes side by side", [_READING, *parts])


def save_plot(data: Mapping[str, Any], path: Path, base: str = BASE_MODE) -> None:
    """Draws success against speedup of every mode, without those of the ablation.

    Args:
        data: Contents of a results file.
        path: Picture to write; its ending names the format.
        base: Mode that speedup is against.

    Raises:
        ValueError: The base was not run, or Matplotlib knows no such format.
    """
    modes = _compared(data, base)["modes"]
    if base not in modes:
        raise ValueError(f"mode {base!r} was not run; accepted: one of {sorted(modes)}")
    whole = {name: mode for name, mode in modes.items() if not name.startswith(_RUNGS)}
    path.parent.mkdir(parents=True, exist_ok=True)
    figures.success_against_speedup(whole, base, _ours(whole)).savefig(path, dpi=90)


def _ours(modes: Container[str]) -> str:
    """Returns the mode that is marked: ours, or its compiled form where only that was run."""
    return OURS + COMPILED if OURS not in modes and OURS + COMPILED in modes else OURS


def _compared(data: Mapping[str, Any], base: str) -> dict[str, Any]:
    """Adds the comparison of each finished mode with the base, computed from the episodes."""
    modes = {}
    for name, mode in data["modes"].items():
        if not mode.get("steps"):
            continue
        versus = mode.get("versus")
        # Older files lack what is computed now, from the same rows.
        own = [row for row in data["episodes"] if row["mode"] == name]
        if name == base:
            versus = None
        elif versus is None or versus["base"] != base or (own and "speedup_episode" not in versus):
            versus = compare(data["episodes"], name, base, data["seed"])
        modes[name] = {**mode, **(summarise(own) if own else {}), "versus": versus}
    return {**data, "modes": modes}


def _section(name: str, data: Mapping[str, Any], base: str, ablation: Sequence[str]) -> str:
    modes, rows = data["modes"], data["episodes"]
    ours = _ours(modes)
    parts = [
        f"<h2>{escape(data['suite'])} <small>{escape(name)}</small></h2>",
        _provenance(data),
        speed_table(modes, base, ours),
        decoding_table(modes, base, ours),
    ]
    if base not in modes:
        parts.append(f"<p>Mode {escape(base)} was not run here, so there are no speedups.</p>")
    others = [key for key in modes if key != base]
    tasks = {key: by_task(rows, key, base, data["seed"]) for key in others}
    if any(tasks.values()):
        parts.append(tasks_table(tasks, base, ours))
    whole = {key: mode for key, mode in modes.items() if not key.startswith(_RUNGS)}
    if any(mode["versus"] for mode in whole.values()):
        picture = figures.success_against_speedup(whole, base, ours)
        parts.append(
            picture_of("Success against speedup", picture, "Up and to the right is better.")
        )
    if rows:
        parts.append(
            picture_of(
                "Success by task",
                figures.success_by_task(rows, list(modes)),
                "Share of the starts of each task that a mode solves.",
            )
        )
        parts.append(
            picture_of(
                "Latency",
                figures.latencies(modes, rows),
                "Left: the distribution over all answers. Right: what a mean step is made of.",
            )
        )
        parts += _episode_pictures(modes, rows)
        foretold = [row for row in rows if row.get("chance")]
        if foretold:
            parts.append(
                picture_of(
                    "Reliability of the predictor",
                    figures.reliability_of(foretold),
                    "Of drafts that a predictor chose, tenths by rising chance. On the dashed line "
                    "as many pass as it says.",
                )
            )
    ladder = _ladder(modes, ablation)
    if len(ladder) > 1:
        picture = figures.ablation(modes, ladder)
        parts.append(picture_of("Ablation", picture, "Parts are added from top to bottom."))
    parts.append(reasons_table(modes))
    return "".join(parts)


def _provenance(data: Mapping[str, Any]) -> str:
    facts = [
        f"model {data['model'][:12]}",
        data["machine"],
        f"{data['workers']} processes" if "workers" in data else "",
        f"{data['threads']} threads each" if "threads" in data else "",
        _load_of(data.get(LOADS, [])),
        f"seed {data['seed']}",
        f"starts drawn by seed {data['draw']}" if data.get("draw") else "",
        f"database {data['database'][:12]}" if data.get("database") else "",
        f"drafter {data['drafter'][:12]}" if data.get("drafter") else "",
        f"at most {data['max_steps']} steps an episode" if data.get("max_steps") else "",
    ]
    text = f'<p class="note">{escape("; ".join(fact for fact in facts if fact))}.</p>'
    if data.get("calibration"):
        guarantee = escape(data["calibration"]["guarantee"])
        text += f'<p class="note">Calibrated: {guarantee}</p>'
    return text


def _load_of(loads: Sequence[float]) -> str:
    """Describes the load of the machine, which older results lack."""
    if not loads:
        return "load before the run not known"
    state = "idle" if max(loads) < _IDLE_LOAD else "NOT idle"
    return f"machine {state}: load average before {', '.join(f'{load:.2f}' for load in loads)}"


def _episode_pictures(modes: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Plots path and metric of a few episodes of one mode: ours, else the one with most sources."""
    ours = _ours(modes)
    focus = ours if ours in modes else max(modes, key=lambda name: _variety(modes[name]))
    chosen = _examples([row for row in rows if row["mode"] == focus])
    parts = [
        picture_of(
            "End-effector path by source",
            episode_figures.tip_paths(chosen),
            f"Episodes of {focus}: colour says who decided the step that begins at each point.",
        )
    ]
    boundary = modes[focus].get("boundary")
    if boundary and any(f is not None for row in chosen for f in row["metric"]):
        parts.append(
            picture_of(
                "Kinematic metric over time",
                episode_figures.metric_over_time(chosen, boundary),
                "Above the boundary the database drafts, below it the drafter; the stripe shows "
                "who decided each step. F begins when its window is full.",
            )
        )
    return parts


def _examples(rows: Sequence[Row]) -> list[Row]:
    """Returns a few episodes of different tasks, successes with the most sources first."""
    best: dict[int, Row] = {}
    for row in sorted(rows, key=lambda row: (not row["success"], -len(set(row["source"])))):
        best.setdefault(row["task_index"], row)
    return list(best.values())[:_EPISODES_SHOWN]


def _variety(mode: Mapping[str, Any]) -> int:
    return sum(share > 0 for share in mode["sources"].values())


def _ladder(modes: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
    names = asked or [*(name for name in modes if name.startswith(_RUNGS)), _ours(modes)]
    return [name for name in names if name in modes and modes[name]["versus"]]

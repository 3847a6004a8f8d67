"""The tables of a report, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from heisd_ros.decoding.types import Source
from heisd_ros.evaluation.by_task import TaskOutcome

Mode = Mapping[str, Any]


def speed_table(modes: Mapping[str, Mode], base: str, ours: str) -> str:
    """Builds the table of success, speedup and step times, one line per mode.

    Args:
        modes: Summaries by name, with `versus` the base.
        base: The mode that others are compared with; its line is marked, as is that of `ours`.
        ours: See `base`.
    """
    header = [
        "mode",
        "success (95%)",
        f"points over {base} (95%)",
        f"won, lost against {base}",
        "p",
        "speedup, medians (95%)",
        "speedup, means (95%)",
        "speedup, compute",
        "speedup, episodes (95%)",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "mean ms",
        "compute ms",
    ]
    lines = []
    for mode in modes.values():
        low, high = mode["success_interval"]
        versus = mode.get("versus")
        times = mode["step_ms"]
        compared = [""] * 7
        if versus:
            change = {key: 100.0 * x for key, x in versus["success_difference"].items()}
            compared = [
                _with_interval(change, "{:+.1f}", "{:+.0f}"),
                f"+{versus['only_mode']} -{versus['only_base']}",
                f"{versus['p_value']:.2f}",
                _with_interval(versus["speedup_median"], "{:.2f}x", "{:.2f}"),
                _with_interval(versus["speedup_mean"], "{:.2f}x", "{:.2f}"),
                f"{versus['speedup_compute']['value']:.2f}x",
                _with_interval(versus["speedup_episode"], "{:.2f}x", "{:.2f}")
                if "speedup_episode" in versus
                else "",
            ]
        lines.append(
            [
                f"{mode['successes']}/{mode['episodes']} = "
                f"{mode['successes'] / mode['episodes']:.0%}"
                f"<br><small>{low:.0%} to {high:.0%}</small>",
                *compared,
                *(f"{times[key]:.1f}" for key in ("p50", "p95", "p99", "mean")),
                f"{mode['compute_ms']:.1f}",
            ]
        )
    return table(header, list(modes), lines, base, ours)


def decoding_table(modes: Mapping[str, Mode], base: str, ours: str) -> str:
    """Builds the table of decoding and motion; arguments are those of `speed_table`."""
    keeps = any(mode["sources"].get(Source.KEPT) for mode in modes.values())
    header = [
        "mode",
        "acceptance length",
        "skip rate",
        *(["kept a reasoning"] if keeps else []),
        "passes a step before it acts",
        "drafted by retrieval",
        "by the last command",
        "by drafter",
        "checks in shadow off",
        f"episodes equal to {base}",
        "jerk m/s³",
        "gripper flips",
        "joint limits",
        "steps an episode",
        "decoding s an episode",
        "with checks in motion, s",
        "distance m",
        "s to finish, where solved",
    ]
    lines = []
    for mode in modes.values():
        length, versus, shadow = mode["acceptance_length"], mode.get("versus"), mode["shadow"]
        lines.append(
            [
                "" if length is None else f"{length:.2f}",
                f"{mode['skip_rate']:.1%}",
                *([f"{mode['sources'].get(Source.KEPT, 0.0):.0%}"] if keeps else []),
                f"{mode['passes_per_step']:.2f}",
                f"{mode['sources'][Source.RETRIEVAL]:.0%}",
                f"{mode['sources'].get(Source.LAST_COMMAND, 0.0):.0%}",
                f"{mode['sources'][Source.DRAFTER]:.0%}",
                f"{shadow['disagreed']}/{shadow['verified']}" if shadow["verified"] else "",
                f"{versus['identical']}/{versus['pairs']}" if versus else "",
                f"{mode['jerk']:.1f}",
                f"{mode['gripper_flips']:.1f}",
                f"{mode['limit_events']:.1f}",
                f"{mode['steps_per_episode']:.0f}",
                f"{mode['seconds_per_episode']:.2f}",
                *(_number(mode.get(key)) for key in ("compute_per_episode", "distance")),
                _number(mode.get("seconds_to_finish")),
            ]
        )
    return table(header, list(modes), lines, base, ours)


def tasks_table(outcomes: Mapping[str, Sequence[TaskOutcome]], base: str, ours: str) -> str:
    """Builds the table of tasks against the base, one line per mode; lost tasks are marked.

    Args:
        outcomes: What `by_task` returns, by mode.
        base: The mode that others are compared with.
        ours: The mode to mark.
    """
    tasks = list(dict.fromkeys(found.task for rows in outcomes.values() for found in rows))
    header = ["mode", *("all tasks" if task is None else f"task {task}" for task in tasks)]
    lines = []
    for rows in outcomes.values():
        cells = {found.task: _task_cell(found) for found in rows}
        lines.append([cells.get(task, "") for task in tasks])
    note = (
        f'<p class="note">Solved by the mode : by {escape(base)}, of the initial states that both '
        f"ran; states won and lost against {escape(base)}; their difference a state, with the 95% "
        "interval of resampled states. LOST: half of the task, net, and hardly by chance.</p>"
    )
    return note + table(header, list(outcomes), lines, base, ours)


def overview_table(results: Mapping[str, Mapping[str, Any]], base: str, ours: str) -> str:
    """Builds one table of all files, as in the paper: success, speedup, acceptance length.

    Args:
        results: Contents of results files by name, each mode with `versus` the base.
        base: The mode that others are compared with.
        ours: The mode to mark.
    """
    names = list(dict.fromkeys(name for data in results.values() for name in data["modes"]))
    header = [
        "mode",
        *(f"{data['suite']}<br><small>{escape(name)}</small>" for name, data in results.items()),
    ]
    lines = [[_in_short(data["modes"].get(name)) for data in results.values()] for name in names]
    note = '<p class="note">Success, % / speedup of medians / acceptance length.</p>'
    return note + table(header, names, lines, base, ours)


def reasons_table(modes: Mapping[str, Mode]) -> str:
    """Builds the folded table of the eight most frequent reasons of each mode's steps, by name."""
    rows = []
    for name, mode in modes.items():
        for reason, share in list(mode["reasons"].items())[:8]:
            text = escape(reason)
            rows.append(f"<tr><td>{escape(name)}</td><td>{share:.1%}</td><td>{text}</td></tr>")
    return (
        "<details><summary>Reasons, by share of steps (# stands for a number)</summary>"
        f"<table>{''.join(rows)}</table></details>"
    )


def _task_cell(found: TaskOutcome) -> str:
    value, low, high = found.difference
    lost = "<b>LOST</b> " if found.collapsed else ""
    return (
        f"{lost}{found.successes} : {found.base_successes} of {found.pairs}"
        f"<br>+{found.won} -{found.lost}<br><small>{value:+.2f}, {low:+.2f} to {high:+.2f}</small>"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _in_short(mode: Mode | None) -> str:
    if mode is None:
        return ""
    parts = [f"{100.0 * mode['successes'] / mode['episodes']:.1f}"]
    if mode.get("versus"):
        parts.append(f"{mode['versus']['speedup_median']['value']:.2f}x")
    if mode["acceptance_length"] is not None:
        parts.append(f"{mode['acceptance_length']:.2f}")
    return " / ".join(parts)


def _with_interval(estimate: Mapping[str, float], value: str, bound: str) -> str:
    low, high = bound.format(estimate["low"]), bound.format(estimate["high"])
    return f"{value.format(estimate['value'])}<br><small>{low} to {high}</small>"


def table(
    header: Sequence[str],
    names: Sequence[str],
    lines: Sequence[Sequence[str]],
    base: str,
    ours: str,
) -> str:
    """Builds a table of one line per mode; cells are HTML already, names are not.

    Args:
        header: Names of the columns.
        names: The modes.
        lines: Their cells, without the first.
        base: The mode that others are compared with; its line is marked, as is that of `ours`.
        ours: See `base`.
    """
    kinds = {base: ' class="base"', ours: ' class="ours"'}
    body = "".join(
        f"<tr{kinds.get(name, '')}><td>{escape(name)}</td>"
        + "".join(f"<td>{cell}</td>" for cell in line)
        + "</tr>"
        for name, line in zip(names, lines, strict=True)
    )
    head = "".join(f"<th>{cell}</th>" for cell in header)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'

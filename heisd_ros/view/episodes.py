"""Shows episodes from the columns of a results file: the tip, the metric and who decided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from heisd_ros.view.moment import of_row
from heisd_ros.view.screen import Screen

RATE_HZ = 20.0
"""Control steps a second of an evaluation's episodes."""


def title(row: Mapping[str, Any]) -> str:
    """Returns the name of an episode: its mode, start and outcome."""
    parts = [str(row["mode"])]
    for key, word in (("task_index", "task"), ("init_state", "state"), ("variation", "variation")):
        if row.get(key) is not None and (key != "variation" or row[key]):
            parts.append(f"{word} {row[key]}")
    if "success" in row:
        parts.append("success" if row["success"] else "failure")
    return ", ".join(parts)


def show_episode(row: Mapping[str, Any], screen: Screen, boundary: float = math.nan) -> None:
    """Shows one episode; time counts from its beginning.

    Args:
        row: Its columns, see `evaluation.accounting.step_columns`; `ms_since_start` says when each
            step was, else they are `RATE_HZ` apart.
        screen: Where it is shown.
        boundary: The mode's boundary of the metric; NaN where it has none.

    Raises:
        ValueError: A column is missing, too short, or of another type.
    """
    try:
        tips = np.array(row["tip_mm"], np.float64).reshape(-1, 3) / 1e3
        grips = set(row["gripper_steps"])
        times = row.get("ms_since_start") or [1e3 * i / RATE_HZ for i in range(row["steps"])]
        for index in range(row["steps"]):
            now = round(float(times[index]) * 1e6)
            screen.tip(tips[index])
            screen.moment(now, of_row(row, index, boundary))
            if index in grips:
                screen.note(now, f"step {index}: the gripper's command changes", "INFO")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"columns of {title(row)} are damaged: {error!r}") from error
    screen.close()

"""The results file of an evaluation: what was run, every episode, and their summary.

It is JSON, and is replaced atomically after each group of episodes, so that a run can be stopped
at any time and resumed. It is resumed only with the same weights, settings, database and machine,
since others would mix two experiments.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from heisd_ros.evaluation.accounting import Row, start_of, summarise
from heisd_ros.evaluation.compare import compare
from heisd_ros.files.atomic import replace_text
from heisd_ros.files.bounded import read_object

FORMAT = 1
MOST_BYTES, MOST_VALUES = 64 << 20, 10_000_000
"""Limits of a file that is read: a hundred episodes of ten modes take 4.5 MB, a million values."""
LOADS = "load_before"
_OF_THE_EPISODES = {"modes", "episodes", LOADS}
"""What the header of a file that is resumed does not have, or has otherwise."""
BASE_MODE = "ar"
"""The mode that speedup and success are compared with."""


class Results:
    """Episodes of one evaluation.

    Args:
        header: What was run: `suite`, `seed`, `model`, `machine`, and `modes`, one dict a mode.
        path: The file; None: it is not written.
        load: Load average of the machine just before; a run that is resumed lists one of each part,
            so that a reader sees whether the machine was idle. None: not known.
    """

    def __init__(
        self, header: Mapping[str, Any], path: Path | None = None, load: float | None = None
    ) -> None:
        # As it is read back: tuples become lists.
        self.header = json.loads(json.dumps({"format": FORMAT, **header}))
        self.path = path
        self.loads = [] if load is None else [round(load, 2)]
        self.episodes: list[Row] = []

    @classmethod
    def resume(
        cls, header: Mapping[str, Any], path: Path | None, load: float | None = None
    ) -> Results:
        """Resumes from a file, or starts a new one if it does not exist.

        Raises:
            ValueError: The file is not a results file, or is of another experiment.
        """
        results = cls(header, path, load)
        if path is not None and path.exists():
            data = read_results(path)
            _check_same(path, results.header, data)
            results.episodes = data["episodes"]
            results.loads = [*data.get(LOADS, []), *results.loads]
        return results

    @property
    def done(self) -> set[tuple[int, int, int]]:
        """Returns `start_of` the episodes that all modes have run."""
        return {start_of(row) for row in self.episodes}

    def add(self, rows: Iterable[Row]) -> None:
        """Adds the episodes of one group, one of each mode, and writes the file."""
        self.episodes.extend(rows)
        self.save(self.summary(with_comparison=False))

    def finish(self) -> dict[str, Any]:
        """Writes the file with all comparisons, and returns what it holds besides the episodes."""
        summary = self.summary(with_comparison=True)
        self.save(summary)
        return summary

    def summary(self, with_comparison: bool) -> dict[str, Any]:
        """Returns the header with the summary of each mode's episodes."""
        modes = {}
        for name, facts in self.header["modes"].items():
            rows = [row for row in self.episodes if row["mode"] == name]
            modes[name] = {**facts, **summarise(rows)}
            if with_comparison and name != BASE_MODE and BASE_MODE in self.header["modes"]:
                modes[name]["versus"] = compare(self.episodes, name, BASE_MODE, self.header["seed"])
        return {**self.header, LOADS: self.loads, "modes": modes}

    def save(self, summary: Mapping[str, Any]) -> None:
        """Writes the file atomically, one line per episode."""
        if self.path is None:
            return
        head = json.dumps(summary, indent=1).removesuffix("\n}")
        rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in self.episodes)
        replace_text(self.path, f'{head},\n "episodes": [\n{rows}\n]}}\n')


def read_results(path: Path) -> dict[str, Any]:
    """Reads a results file; one without `episodes`, a summary, has none of them.

    Raises:
        ValueError: It is missing, damaged, or not in the layout of this version.
    """
    data = read_object(path, _no_results, MOST_BYTES, MOST_VALUES)
    found = data.get("format")
    if found != FORMAT:
        raise ValueError(
            f"{path} has results format {found}; accepted: {FORMAT}. Run `heisd eval` with a new "
            "--json file"
        )
    lacking = [key for key in ("suite", "seed", "model", "machine", "modes") if key not in data]
    if lacking:
        raise ValueError(f"{path} lacks {', '.join(lacking)}; it is no whole results file")
    return {"episodes": [], **data}


def _no_results(problem: str) -> ValueError:
    return ValueError(f"{problem}; the --json file of `heisd eval` is needed")


def _check_same(path: Path, header: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Raises `ValueError` naming the first thing in which a file differs from what is to run."""
    for name in sorted((header.keys() | data.keys()) - _OF_THE_EPISODES):
        if data.get(name) != header.get(name):
            raise ValueError(
                f"{path} was begun with {name} {data.get(name)!r}, now it is {header.get(name)!r}; "
                "give a new --json file"
            )
    if list(data["modes"]) != list(header["modes"]):
        raise ValueError(
            f"{path} was begun with modes {','.join(data['modes'])}; now they are "
            f"{','.join(header['modes'])}: all modes of a file run side by side, so give a new one"
        )
    for name, facts in header["modes"].items():
        for key, wanted in facts.items():
            if data["modes"][name].get(key) != wanted:
                raise ValueError(
                    f"{path}: the {key} of mode {name!r} changed since it was begun; "
                    "give a new --json file"
                )

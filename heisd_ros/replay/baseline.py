"""Compares a replay with an earlier one of the same bag and model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heisd_ros.errors import ReplayError
from heisd_ros.files.bounded import read_object, shown
from heisd_ros.replay.summary import FORMAT, KIND, RESULTS

TOLERANCES: dict[str, float] = {
    "observations": 0.0,
    "steps": 0.0,
    "inputs": 0.0,
    "holds": 0.0,
    "tokens": 0.02,
    "deviation.ar": 0.01,
    "deviation.recorded": 0.01,
    "acceptance": 0.1,
    "passes": 0.1,
    "skip_rate": 0.02,
    "wrong_skips": 0.01,
}
"""Tolerance of each figure, in its own unit; see docs/replay.md."""

_BYTES, _VALUES = 1 << 30, 100_000_000
"""Of a results file, at most: it holds the tokens of every step of every mode."""
_MAY_DIFFER = ("database", "drafter", "calibration", "parameters", "seed")


@dataclass(frozen=True)
class Moved:
    """A figure that moved by more than its tolerance.

    Attributes:
        mode: Decoding mode.
        figure: Name of the figure.
        old: Value in the baseline; None if it has none.
        new: Value now; None if it has none.
        tolerance: Largest accepted difference.
    """

    mode: str
    figure: str
    old: float | None
    new: float | None
    tolerance: float

    def __str__(self) -> str:
        old, new = ("none" if x is None else f"{x:.6g}" for x in (self.old, self.new))
        return f"{self.mode}: {self.figure} was {old}, is {new} (tolerance {self.tolerance:g})"


def read_tolerances(texts: Sequence[str]) -> dict[str, float]:
    """Returns the default tolerances, replaced by those given as `NAME=VALUE`.

    Raises:
        ReplayError: A name is unknown, or a value is not a number from 0 up.
    """
    tolerances = dict(TOLERANCES)
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if name not in tolerances or not number >= 0.0:
            accepted = ", ".join(tolerances)
            raise ReplayError(
                f"tolerance {text!r}; accepted: NAME=VALUE, a number from 0 up, of {accepted}"
            )
        tolerances[name] = number
    return tolerances


def read_baseline(path: Path) -> dict[str, Any]:
    """Reads an earlier replay.

    Args:
        path: Its results file, or the folder of it.

    Raises:
        ReplayError: It is missing, damaged, or not a replay in the format of this version.
    """
    file = path / RESULTS if path.is_dir() else path
    data = read_object(
        file, lambda problem: ReplayError(f"baseline {problem}"), most=_BYTES, values=_VALUES
    )
    about = (data.get("kind"), data.get("format"))
    if about != (KIND, FORMAT):
        raise ReplayError(
            f"baseline {file} is of kind and format {about}; accepted: {(KIND, FORMAT)}, a "
            f"{RESULTS} of `heisd replay`"
        )
    try:
        _check_parts(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReplayError(
            f"baseline {file} is damaged: {type(error).__name__} {shown(str(error))}; accepted: a "
            f"{RESULTS} of `heisd replay`"
        ) from error
    return data


def _check_parts(data: Mapping[str, Any]) -> None:
    """Reads all that a comparison reads; raises what is wrong with it."""
    for name in ("bag", "model"):
        if not isinstance(data[name], str):
            raise ValueError(f"{name} is {shown(data[name])}")
    for name in _MAY_DIFFER:
        data[name]
    for name, mode in data["modes"].items():
        mode["settings"]
        for (kind, figure), value in _figures(mode):
            if kind not in TOLERANCES or not (value is None or isinstance(value, int | float)):
                raise ValueError(f"{figure} of mode {name} is {shown(value)}")
        for column in ("observation", "tokens"):
            _changed(data["steps"][name], data["steps"][name], column)


def check_comparable(described: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    """Checks that a baseline is of the same experiment.

    Args:
        described: What is run, from `describe`.
        baseline: Contents of the earlier results file.

    Returns:
        Other differences, one line each: they may be the change under test.

    Raises:
        ReplayError: It has a different bag or model, or lacks a mode.
    """
    described = json.loads(json.dumps(described))  # as the baseline was read
    for name in ("bag", "model"):
        old, new = baseline[name], described[name]
        if old != new:
            raise ReplayError(f"the baseline is of {name} {old[:12]}; accepted: {new[:12]}, this")
    lacking = [mode for mode in described["modes"] if mode not in baseline["modes"]]
    if lacking:
        raise ReplayError(
            f"the baseline lacks mode {', '.join(lacking)}; accepted: one with every mode replayed"
        )
    differences = [
        f"{name} is another than the baseline's"
        for name in _MAY_DIFFER
        if described[name] != baseline[name]
    ]
    for mode, facts in described["modes"].items():
        if facts["settings"] != baseline["modes"][mode]["settings"]:
            differences.append(f"settings of mode {mode} are others than the baseline's")
    return differences


def compare(
    results: Mapping[str, Any], baseline: Mapping[str, Any], tolerances: Mapping[str, float]
) -> list[Moved]:
    """Returns the figures that moved by more than their tolerance.

    Args:
        results: Contents of the results file.
        baseline: Contents of the earlier one.
        tolerances: Those of `TOLERANCES`, or others.
    """
    moved = []
    for mode, new in results["modes"].items():
        old = baseline["modes"][mode]
        before, after = dict(_figures(old)), dict(_figures(new))
        for column, kind in (("observation", "observations"), ("tokens", "tokens")):
            before[kind, f"share of steps with other {kind}"] = 0.0
            after[kind, f"share of steps with other {kind}"] = _changed(
                baseline["steps"][mode], results["steps"][mode], column
            )
        for key in dict.fromkeys([*before, *after]):
            was, now = before.get(key, _absent(key[0])), after.get(key, _absent(key[0]))
            if _apart(was, now) > tolerances[key[0]]:
                moved.append(Moved(mode, key[1], was, now, tolerances[key[0]]))
    return moved


def _figures(mode: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float | None]]:
    """Yields kind (which has the tolerance) and name of each figure, with its value."""
    steps = mode["steps"]
    yield ("steps", "steps"), steps
    for name, count in mode["inputs"]["sets"].items():
        yield ("inputs", f"input sets {name}"), count
    for name, counts in mode["inputs"]["rejected"].items():
        for reason, count in counts.items():
            yield ("inputs", f"rejected from {name} ({reason})"), count
    yield ("inputs", "instructions refused"), mode["inputs"]["instructions refused"]
    for reason, count in mode["holds"].items():
        yield ("holds", f"holds for {reason}"), count
    for what, deviation in mode["deviation"].items():
        for axis, numbers in (deviation or {"axes": {}})["axes"].items():
            for statistic, value in numbers.items():
                name = f"deviation from {what}, {axis}, {statistic}"
                yield (f"deviation.{what}", name), value
    yield ("acceptance", "acceptance length"), mode.get("acceptance_length")
    yield ("passes", "passes a step"), mode.get("passes_per_step")
    yield ("skip_rate", "skip rate"), mode.get("skip_rate")
    wrong = mode["skips"]["wrong"] / steps if steps else None
    yield ("wrong_skips", "wrong skips, share of steps"), wrong


def _absent(kind: str) -> float | None:
    """Returns the value of a missing figure: 0 for a count, else None."""
    return 0.0 if kind in ("inputs", "holds") else None


def _apart(old: float | None, new: float | None) -> float:
    if old is None or new is None:
        return 0.0 if old == new else float("inf")
    return abs(new - old)


def _changed(old: Mapping[str, Any], new: Mapping[str, Any], column: str) -> float:
    """Returns the share of times at which two replays have different entries, or only one has."""
    entries = [
        dict(zip(columns["ms_since_start"], columns[column], strict=True)) for columns in (old, new)
    ]
    moments = entries[0].keys() | entries[1].keys()
    changed = sum(entries[0].get(moment) != entries[1].get(moment) for moment in moments)
    return changed / len(moments) if moments else 0.0

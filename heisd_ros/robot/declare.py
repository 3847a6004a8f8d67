"""Parameters declared once: a frozen dataclass whose fields carry name, description and range.

A node's parameter set is one dataclass. Each field is made by `parameter`, and that one line is the
source of the ROS declaration (`nodes/declaration.py`), of the validation at configure time
(`validate`) and of the table in docs/nodes.md (`markdown_table`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_TYPE_NAMES = {bool: "bool", int: "integer", float: "double", str: "string", tuple: "string[]"}
ONE_TYPE = 'a list of one type, [""] for none (ROS does not know the type of an empty list)'
"""What is accepted of a list."""


def at_most(value: float) -> float:
    """How loose an upper limit is."""
    return value


def at_most_if_any(value: float) -> float:
    """How loose an upper limit is of which 0 means that there is none."""
    return value or math.inf


def at_least(value: float) -> float:
    """How loose a lower limit is."""
    return -value


@dataclass(frozen=True)
class ParameterInfo:
    """What a parameter is called, means and accepts."""

    name: str
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] | None = None
    read_only: bool = False
    live: bool = False
    own: bool = False
    looseness: Callable[[float], float] | None = None

    def accepted(self) -> str:
        """The accepted values in words; empty when any value of the type is."""
        if self.choices is not None:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return ""


def parameter(
    name: str,
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    read_only: bool = False,
    live: bool = False,
    own: bool = False,
    looseness: Callable[[float], float] | None = None,
) -> Any:
    """A dataclass field that is a ROS parameter.

    Args:
        name: ROS name, dots for groups.
        default: Its type (bool, int, float, str or tuple of str) is the parameter's type.
        description: One sentence with units.
        low: Least accepted number; given together with `high`.
        high: Largest accepted number.
        choices: Accepted strings.
        read_only: Whether it is fixed when the node starts.
        live: Whether it may change while the node is configured, and takes effect at once.
        own: Whether the default is the built-in robot's, and any other has to give its own.
        looseness: Of a limit, how loose a value of it is (`at_most`, `at_least` ...): while the arm
            may move, it is only tightened.
    """
    info = ParameterInfo(name, description, low, high, choices, read_only, live, own, looseness)
    return dataclasses.field(default=default, metadata={"ros": info})


def parameters_of(kind: type) -> list[tuple[dataclasses.Field, ParameterInfo]]:
    """The parameters of a parameter dataclass, in order."""
    return [(field, field.metadata["ros"]) for field in dataclasses.fields(kind)]


def validate(instance: Any) -> None:
    """Checks type, range and choices of every field; called from `__post_init__`.

    Raises:
        ValueError: Names the parameter, its value and what is accepted.
    """
    for field, info in parameters_of(type(instance)):
        value: Any = getattr(instance, field.name)
        expected: type = type(field.default)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (isinstance(value, expected) and (number or expected not in (int, float))):
            raise ValueError(
                f"parameter '{info.name}' is {value!r}; accepted: a {_TYPE_NAMES[expected]}"
            )
        amount: Any = value if number else 0.0
        inside = not number or (
            math.isfinite(amount)
            and (info.low is None or amount >= info.low)
            and (info.high is None or amount <= info.high)
        )
        if not inside or (info.choices is not None and value not in info.choices):
            raise ValueError(
                f"parameter '{info.name}' is {value!r}; accepted: {info.accepted() or 'finite'}"
            )


def loosened(before: Any, after: Any) -> str:
    """Which limit is looser than before, in words; empty where none is.

    Args:
        before: A parameter dataclass.
        after: Another of its kind.
    """
    for field, info in parameters_of(type(before)):
        if info.looseness is not None:
            old, new = getattr(before, field.name), getattr(after, field.name)
            if info.looseness(new) > info.looseness(old):
                return (
                    f"parameter '{info.name}' is {new!r}; accepted while the node is active: "
                    f"nothing looser than {old!r}, the value in force"
                )
    return ""


def markdown_table(kind: type) -> str:
    """The parameters as a Markdown table, for docs/nodes.md."""
    rows = ["| parameter | type | default | accepted | meaning |", "|---|---|---|---|---|"]
    for field, info in parameters_of(kind):
        default = field.default
        shown = ", ".join(default) if isinstance(default, tuple) else repr(default)
        live = " (live: tighter)" if info.looseness else " (live)" if info.live else ""
        mark = " (read-only)" if info.read_only else live
        mark += " (the robot's own)" if info.own else ""
        meaning = info.description + mark
        kind_name = _TYPE_NAMES[type(default)]
        cells = (f"`{info.name}`", kind_name, f"`{shown}`", info.accepted(), meaning)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)

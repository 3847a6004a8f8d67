"""Parameters declared once: nested frozen dataclasses whose fields carry description and range.

A node's parameter set is one dataclass of parameters and groups of them, which nest as their ROS
names do: the path of the fields, `command.rate_hz`, is the name. Each parameter is a field made by
`parameter`, and that one line is the source of the ROS declaration (`nodes/declaration.py`), of the
validation at configure time (`validate`) and of the table in docs/nodes.md (`markdown_table`).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

_PART = r"(\w|\{(node|name|ns|namespace)\})+"
ROS_NAME = re.compile(rf"(~/|/)?(?!\d){_PART}(/(?!\d){_PART})*", re.ASCII)
"""Names of topics, services and nodes that ROS takes, with what it puts in itself."""
_TYPE_NAMES = {bool: "bool", int: "integer", float: "double", str: "string", tuple: "string[]"}
ONE_TYPE = 'a list of one type, [""] for none (ROS does not know the type of an empty list)'
"""What is accepted as the value of a list."""


def at_most(value: float) -> float:
    """Returns how loose an upper limit is."""
    return value


def at_most_if_any(value: float) -> float:
    """Returns how loose an upper limit is, where 0 means no limit."""
    return value or math.inf


def at_least(value: float) -> float:
    """Returns how loose a lower limit is."""
    return -value


@dataclass(frozen=True)
class ParameterInfo:
    """Name, meaning and accepted values of a parameter.

    Attributes:
        name: ROS name, with dots for groups.
        default: Its type (bool, int, float, str or tuple of str) is the parameter's type.
        description: One sentence with units.
        low: Smallest accepted number; given together with `high`.
        high: Largest accepted number.
        choices: Accepted strings.
        read_only: Whether it is fixed when the node starts.
        live: Whether it may change while the node is configured, and takes effect at once.
        own: Whether the default is that of the built-in robot, and any other robot must set it.
        looseness: Of a limit, how loose a value of it is (`at_most`, `at_least` ...): it is live,
            and while the arm may move, it is only tightened.
    """

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] | None = None
    read_only: bool = False
    live: bool = False
    own: bool = False
    looseness: Callable[[float], float] | None = None

    def accepted(self) -> str:
        """Returns a description of the accepted values; empty if any value is accepted."""
        if self.choices is not None:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return ""

    def objection(self, value: Any) -> str:
        """Returns what is accepted instead of a value; empty if the value is accepted."""
        expected = type(self.default)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        texts = not isinstance(value, tuple) or all(isinstance(item, str) for item in value)
        fits = isinstance(value, expected) and (number or expected not in (int, float))
        if not (fits and texts):
            return f"a {_TYPE_NAMES[expected]}"
        inside = not number or (
            math.isfinite(value)
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
        )
        if not inside or (self.choices is not None and value not in self.choices):
            return self.accepted() or "finite"
        return ""


@dataclass(frozen=True)
class Parameters:
    """Base class of a parameter group or of all parameters of a node: a frozen dataclass."""

    def _problems(self) -> Iterator[tuple[str, str]]:
        """Yields the values of the group that do not fit together.

        Yields:
            Path of the parameter to change, from this group on, and what is accepted.
        """
        yield from ()


T = TypeVar("T", bound=Parameters)


def parameter(default: Any, description: str, **marks: Any) -> Any:
    """Declares a dataclass field as a ROS parameter; the marks are fields of `ParameterInfo`."""
    info = ParameterInfo("", default, description, **marks)
    if info.looseness is not None:
        info = dataclasses.replace(info, live=True)
    return dataclasses.field(default=default, metadata={"ros": info})


def group(kind: type[Parameters]) -> Any:
    """Declares a dataclass field as a group of parameters with their defaults."""
    return dataclasses.field(default_factory=kind, metadata={"ros": kind})


_KNOWN: dict[type[Parameters], tuple[ParameterInfo, ...]] = {}


def parameters_of(kind: type[Parameters]) -> tuple[ParameterInfo, ...]:
    """Returns the parameters of a parameter dataclass and of its groups, in order."""
    if kind not in _KNOWN:
        _KNOWN[kind] = _parameters_of(kind)
    return _KNOWN[kind]


def _parameters_of(kind: type[Parameters]) -> tuple[ParameterInfo, ...]:
    found: list[ParameterInfo] = []
    for field in dataclasses.fields(kind):
        about = field.metadata["ros"]
        if isinstance(about, ParameterInfo):
            found.append(dataclasses.replace(about, name=field.name))
        else:
            found += (
                dataclasses.replace(info, name=f"{field.name}.{info.name}")
                for info in parameters_of(about)
            )
    return tuple(found)


def values_of(settings: Parameters) -> dict[str, Any]:
    """Returns the value of every parameter by its ROS name."""
    return {info.name: attrgetter(info.name)(settings) for info in parameters_of(type(settings))}


def with_values(settings: T, values: Mapping[str, Any]) -> T:
    """Returns the settings with some parameters replaced, validated.

    Args:
        settings: A parameter dataclass.
        values: Values by ROS name; lists are taken as tuples.

    Raises:
        ValueError: A parameter is unknown or its value is not accepted; the message names it.
    """
    return from_values(type(settings), {**values_of(settings), **values})


def from_values(kind: type[T], values: Mapping[str, Any]) -> T:
    """Returns settings with values by ROS name, and defaults for all others, validated.

    Raises:
        ValueError: A parameter is unknown or its value is not accepted; the message names it.
    """
    known = {info.name for info in parameters_of(kind)}
    for name in values:
        if name not in known:
            raise ValueError(unknown(name, known))
    fields: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if rest:
            groups[first][rest] = value
        else:
            fields[name] = tuple(value) if isinstance(value, list) else value
    for field in dataclasses.fields(kind):
        if field.name in groups:
            fields[field.name] = from_values(field.metadata["ros"], groups[field.name])
    return kind(**fields)


def unknown(name: str, known: Iterable[str]) -> str:
    """Returns the error message for an unknown parameter."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"such as '{near[0]}'" if near else "see docs/nodes.md"
    return f"parameter '{name}' is unknown; accepted: a declared one, {hint}"


def validate(settings: Parameters, prefix: str = "") -> None:
    """Checks each parameter, then the relations of each group, then those between groups.

    Args:
        settings: All of a node's parameters, which call it from `__post_init__`.
        prefix: Prefix of the ROS names, for a group.

    Raises:
        ValueError: A value is not accepted; names the parameter, the value and what is accepted.
    """
    for field in dataclasses.fields(settings):
        about, value = field.metadata["ros"], getattr(settings, field.name)
        if not isinstance(about, ParameterInfo):
            validate(value, f"{prefix}{field.name}.")
        elif accepted := about.objection(value):
            raise _refusal(f"{prefix}{field.name}", value, accepted)
    for name, accepted in settings._problems():
        raise _refusal(f"{prefix}{name}", attrgetter(name)(settings), accepted)


def _refusal(name: str, value: Any, accepted: str) -> ValueError:
    shown = list(value) if isinstance(value, tuple) else value
    return ValueError(f"parameter '{name}' is {shown!r}; accepted: {accepted}")


def loosened(before: T, after: T) -> str:
    """Describes the first limit that is looser than before; empty if none is."""
    old, new = values_of(before), values_of(after)
    for info in parameters_of(type(before)):
        value, earlier = new[info.name], old[info.name]
        if info.looseness is not None and info.looseness(value) > info.looseness(earlier):
            return (
                f"parameter '{info.name}' is {value!r}; accepted while the node is active: "
                f"nothing looser than {earlier!r}, the value in force"
            )
    return ""


def markdown_table(parameters: Iterable[ParameterInfo]) -> str:
    """Formats parameters as a Markdown table, for the documents."""
    rows = ["| parameter | type | default | accepted | meaning |", "|---|---|---|---|---|"]
    for info in parameters:
        default = info.default
        shown = ", ".join(default) if isinstance(default, tuple) else repr(default)
        live = " (live: tighter)" if info.looseness else " (live)" if info.live else ""
        mark = " (read-only)" if info.read_only else live
        mark += " (the robot's own)" if info.own else ""
        kind_name = _TYPE_NAMES[type(default)]
        cells = (f"`{info.name}`", kind_name, f"`{shown}`", info.accepted(), info.description)
        rows.append("| " + " | ".join(cells) + mark + " |")
    return "\n".join(rows)

"""YAML as ROS 2 reads it, for its parameter files and for every other YAML file of ours.

The types of scalars are those of rcl_yaml_param_parser (Jazzy, ``src/parse.c``), which differ from
YAML's own: ``y`` and ``off`` are booleans, ``2e-2`` is a number, ``010`` is eight, ``null`` is a
text. What ROS reads in a way that a file's author can hardly have meant is refused: a key that
occurs twice, several documents, and aliases, which ROS refuses itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from heisd_ros.files.bounded import Error, read_text, shown

MOST_BYTES = 1 << 20
"""Largest YAML file that is read."""
MOST_LEVELS = 32
"""Nested lists and mappings, at most."""

_TRUE = {"Y", "y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}
_FALSE = {"N", "n", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}
_SPECIAL = {
    sign + text: float(sign + text[1:])
    for sign in ("", "+", "-")
    for text in (".inf", ".Inf", ".INF", *((".nan", ".NaN", ".NAN") if not sign else ()))
}
# What C's strtoll (base 0) and strtod take as a whole.
_WHOLE = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_REAL = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan(\(\w*\))?)", re.A | re.I)
_HEXADECIMAL = re.compile(r"[+-]?0x([0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(p[+-]?\d+)?", re.A | re.I)
_TEXT = "tag:yaml.org,2002:str"


def read_yaml(path: Path, error: Error = ValueError) -> Any:
    """Reads a YAML file; None where it is empty.

    Args:
        path: the file.
        error: makes the exception from one line of text.

    Raises:
        Exception: what `error` makes, where the file cannot be read or `parse_yaml` refuses it.
    """
    text = read_text(path, error, MOST_BYTES)
    try:
        return parse_yaml(text)
    except ValueError as cause:
        raise error(f"{path}: not readable YAML: {cause}") from cause


def parse_yaml(text: str) -> Any:
    """Parses YAML text: dicts, lists, and scalars as ROS types them; a value left out is None.

    Raises:
        ValueError: one line that names the line of the file and what is accepted.
    """
    events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    try:
        next(events)  # the stream's start
        if isinstance(next(events), yaml.StreamEndEvent):
            return None
        content = _node(next(events), events, 0)
        next(events)  # the document's end
        after = next(events)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"line {mark.line + 1}: " if mark is not None else ""
        raise ValueError(f"{line}{error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # escapes that are no characters, too
        raise ValueError(" ".join(str(error).split())) from error
    if not isinstance(after, yaml.StreamEndEvent):
        raise _fault(after, "a second document; accepted: one")
    return content


def _node(event: Any, events: Iterator[Any], level: int) -> Any:
    """Builds the value that begins with an event."""
    if isinstance(event, yaml.AliasEvent):
        raise _fault(event, f"the alias *{event.anchor}; accepted: its value, ROS has no aliases")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event)
    if level == MOST_LEVELS:
        raise _fault(event, f"nested too deeply; accepted: up to {MOST_LEVELS} levels")
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(_node(event, events, level + 1))
        return items
    mapping: dict[str, Any] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        if not isinstance(event, yaml.ScalarEvent) or not event.value:
            raise _fault(event, "a key that is no text; accepted: a name")
        if event.value in mapping:
            raise _fault(event, f"the key {shown(event.value)} stands twice; accepted: once")
        mapping[event.value] = _node(next(events), events, level + 1)
    return mapping


def _scalar(event: yaml.ScalarEvent) -> bool | int | float | str | None:
    text: str = event.value
    if "\0" in text:
        raise _fault(event, f"{shown(text)} holds a zero byte; accepted: a text without")
    if event.tag == _TEXT or event.style in ("'", '"'):
        return text
    return scalar(text)


def scalar(text: str) -> bool | int | float | str | None:
    """Returns the value that ROS reads from a scalar without quotes; None if it is empty."""
    if not text:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _WHOLE.fullmatch(text):
        digits = text.lstrip("+-")
        octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
        number = int(text, 8 if octal else 0) if len(digits) < 100 else 2**63
        if -(2**63) <= number < 2**63:
            return number
    real = _real(text)
    return text if real is None else real


def _real(text: str) -> float | None:
    """Parses a text as strtod does; None if it does not accept all of it, or it is out of range."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    try:
        if _REAL.fullmatch(text):
            number = float(text.partition("(")[0])
            named = text.strip("+-")[0] in "iInN"
        elif _HEXADECIMAL.fullmatch(text):
            number, named = float.fromhex(text), False
        else:
            return None
    except OverflowError:
        return None
    mantissa = re.split("[eEpP]" if "x" not in text.lower() else "[pP]", text)[0]
    zero = not re.search(r"[1-9a-fA-F]", mantissa.lower().replace("0x", ""))
    inside = zero or sys.float_info.min <= abs(number) <= sys.float_info.max
    return number if named or inside else None


def _fault(event: Any, text: str) -> ValueError:
    return ValueError(f"line {event.start_mark.line + 1}: {text}")

"""Conditions that a configuration has to meet, each with a message that names what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heisd_ros.files.bounded import shown


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_whole(what: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Raise ValueError unless the value is a whole number from `least` to `most` (None: any)."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(whole, f"{what} is {shown(value)}; a whole number of at least {least} is needed")
    require(
        most is None or (isinstance(value, int) and value <= most),
        f"{what} is {shown(value)}; a whole number of at most {most} is needed",
    )


def reject_unknown(where: str, given: Mapping[str, Any], known: set[str]) -> None:
    """Raise ValueError if a mapping has keys that nothing reads: most likely misspelt."""
    unknown = sorted(set(given) - known)
    require(not unknown, f"unknown keys in {where}: {shown(unknown)}; known are {sorted(known)}")


def require_template(what: str, text: str, name: str) -> None:
    """Raise ValueError if a text has braces other than ``{name}``: it goes through str.format."""
    rest = text.replace(f"{{{name}}}", "")
    require(
        "{" not in rest and "}" not in rest,
        f"{what} {shown(text)} has braces; accepted are those of '{{{name}}}' alone",
    )

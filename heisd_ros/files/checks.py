"""Checks of configuration values, with messages that name what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heisd_ros.files.bounded import shown


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_whole(what: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Raises ValueError unless the value is an integer from `least` to `most` (None: any)."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(whole, f"{what} is {shown(value)}; a whole number of at least {least} is needed")
    require(
        most is None or (isinstance(value, int) and value <= most),
        f"{what} is {shown(value)}; a whole number of at most {most} is needed",
    )


def require_fixed(given: Mapping[str, Any], fixed: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises ValueError if a key is given with none of its accepted values; it may be absent."""
    for key, accepted in fixed.items():
        if key in given:
            value = given[key]
            require(value in accepted, f"{key} is {shown(value)}; only {accepted[0]!r}")


def reject_unknown(where: str, given: Mapping[str, Any], known: set[str]) -> None:
    """Raises ValueError if a mapping has unknown keys, which are most likely misspelt."""
    unknown = sorted(set(given) - known)
    require(not unknown, f"unknown keys in {where}: {shown(unknown)}; known are {sorted(known)}")


def require_template(what: str, text: str, name: str) -> None:
    """Raises ValueError if a text for str.format has braces other than ``{name}``."""
    rest = text.replace(f"{{{name}}}", "")
    require(
        "{" not in rest and "}" not in rest,
        f"{what} {shown(text)} has braces; accepted are those of '{{{name}}}' alone",
    )

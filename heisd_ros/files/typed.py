"""Validation of parsed JSON and YAML against declared types."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from heisd_ros.files.bounded import shown

_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_UNKNOWN = "unexpected_keyword_argument"
_MOST_ERRORS = 1000
_ACCEPTED = {
    "bool_type": "true or false",
    "dataclass_type": "a mapping",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a finite number",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_from_float": "a whole number below 2^63",
    "int_type": "a whole number below 2^63",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "string_type": "a text",
    "too_long": "a list of {max_length}",
    "tuple_type": "a list",
}
"""What is accepted instead, by pydantic's kinds of errors."""


class _OutOfRangeError(ValueError):
    """An error whose text is only what is accepted."""


def typed(hint: Any, value: Any, name: str = "") -> Any:
    """Converts a parsed value to a declared type, with pydantic.

    Only lists (to tuples), objects (to dataclasses) and integers (to floats) are converted: a
    number in quotes is not a number. A dataclass accepts only its own keys.

    Args:
        hint: what pydantic validates: a scalar, a Literal, a tuple, a dict, a union, Any, or a
            dataclass of these. Real numbers must be finite.
        value: as a parser gave it.
        name: of the value in its file, for the message, such as ``skip.rate``.

    Raises:
        ValueError: one line that names key, value and what is accepted.
    """
    try:
        # As JSON, because strict validation of Python's values takes no list for a tuple.
        (result,) = _adapter(hint).validate_json(json.dumps([value]))
    except ValidationError as error:
        raise ValueError(_line(error, hint, value, name)) from error
    return result


def check_fields(instance: Any) -> None:
    """Checks that the values of a dataclass are such as `typed` accepts in a file.

    Raises:
        ValueError: as in `typed`.
    """
    hints = get_type_hints(type(instance), include_extras=True)
    for name, value in dataclasses.asdict(instance).items():
        typed(hints[name], value, name)


def within(low: float, high: float = math.inf) -> AfterValidator:
    """Returns a validator for a range of numbers, ends included, for ``Annotated[int, ...]``."""
    accepted = f"{low} or more" if high == math.inf else f"{low} to {high}"

    def check(value: Any) -> Any:
        if not low <= value <= high:
            raise _OutOfRangeError(accepted)
        return value

    return AfterValidator(check)


def one_of(names: Callable[[], Sequence[str]]) -> AfterValidator:
    """Returns a validator for one of some names, asked for at each check, as they may grow."""

    def check(value: str) -> str:
        *others, last = accepted = [str(name) for name in names()]
        if value not in accepted:
            raise _OutOfRangeError(f"{', '.join(map(repr, others))} or {last!r}")
        return value

    return AfterValidator(check)


@lru_cache
def _adapter(hint: Any) -> TypeAdapter:
    # In a tuple, because for a dataclass pydantic reads the settings from its class.
    return TypeAdapter(tuple[hint], config=_CONFIG)


def _line(error: ValidationError, hint: Any, value: Any, name: str) -> str:
    """Writes the first error in one line; an unknown key takes precedence."""
    if error.error_count() > _MOST_ERRORS:  # to list a million takes ten seconds
        return f"{name or 'the content'} has {error.error_count()} values that are not accepted"
    problems = error.errors(include_url=False)
    problem = next((p for p in problems if p["type"] == _UNKNOWN), problems[0])
    kind, place, found = problem["type"], problem["loc"][1:], value
    path: list[Any] = []
    for part in place:
        try:
            found = found[part]
        except (LookupError, TypeError):
            continue  # a member of a union, or a key that is missing
        path.append(part)
        name = _in(name, part)
    if kind == _UNKNOWN:
        return f"unknown key {name}; accepted: {', '.join(_fields(hint, path[:-1]))}"
    if kind == "missing" and isinstance(place[-1], str):
        return f"{_in(name, place[-1])} is missing"
    accepted = problem["msg"]
    if kind == "value_error":
        cause = problem["ctx"]["error"]
        accepted = str(cause)
        if not isinstance(cause, _OutOfRangeError):
            return f"{name}: {cause}" if name else accepted
    if kind in _ACCEPTED:
        accepted = _ACCEPTED[kind].format(**problem.get("ctx", {}))
    if kind == "missing":  # the end of a list
        ends = (p["loc"][-1] for p in problems if p["type"] == "missing")
        accepted = f"a list of {1 + max(end for end in ends if isinstance(end, int))}"
    return f"{name or 'the content'} is {shown(found)}; accepted: {accepted}"


def _fields(hint: Any, path: Sequence[Any]) -> list[str]:
    """Returns the field names of the dataclass at a path in a type."""
    if dataclasses.is_dataclass(hint):
        if path:
            return _fields(get_type_hints(hint)[path[0]], path[1:])
        return [field.name for field in dataclasses.fields(hint) if field.init]
    origin = get_origin(hint)
    if isinstance(origin, type) and issubclass(origin, Collection):  # not a union
        path = path[1:]
    return next(filter(None, (_fields(part, path) for part in get_args(hint))), [])


def _in(name: str, key: object) -> str:
    if isinstance(key, int):
        return f"{name}[{key}]"
    key = key if isinstance(key, str) and key.isidentifier() else shown(key)
    return f"{name}.{key}" if name else f"{key}"

"""Parsed JSON and YAML as the types that a program declares."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from heisd_ros.files.bounded import shown

_hints = functools.cache(get_type_hints)
"""Of a dataclass; each look at its annotations costs more than all else."""

_WHOLE = 2**53
"""Beyond this a whole number that stands for a real one is made one."""


def typed(hint: Any, value: Any, name: str = "") -> Any:
    """A parsed value as a declared type.

    Nothing is converted but lists, which become tuples, and objects, which become dataclasses: a
    number in quotes is no number. A dataclass takes no other keys than its own.

    Args:
        hint: bool, int, float (finite), str, a Literal, a tuple, a dict, a union with None, Any, or
            a dataclass of these.
        value: as a parser gave it.
        name: of the value in its file, for the message, such as ``skip.rate``.

    Raises:
        ValueError: one line that names key, value and what is accepted.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, name)
    if origin in (Union, types.UnionType):
        return _union(arguments, value, name)
    if origin is Literal:
        _accept(isinstance(value, str) and value in arguments, name, value, _listed(arguments))
        return value
    if origin is tuple:
        return _tuple(arguments, value, name)
    if origin in (dict, Mapping):
        _accept(isinstance(value, Mapping), name, value, "a mapping")
        return {
            typed(arguments[0], key, f"a key of {name}"): typed(arguments[1], item, _in(name, key))
            for key, item in value.items()
        }
    return _scalar(hint, value, name)


def _scalar(hint: type, value: Any, name: str) -> Any:
    if hint is float:
        _accept(_finite(value), name, value, "a finite number")
        return float(value) if abs(value) > _WHOLE else value
    words = {bool: "true or false", int: "a whole number of up to 18 digits", str: "a text"}
    fits = type(value) is hint
    if hint is int:
        fits = fits and abs(value) < 10**18
    _accept(fits, name, value, words[hint])
    return value


def _finite(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _union(arguments: tuple[Any, ...], value: Any, name: str) -> Any:
    """The first of several types that fits; the message is that of the first."""
    if value is None and type(None) in arguments:
        return None
    problem: ValueError | None = None
    for hint in arguments:
        if hint is type(None):
            continue
        try:
            return typed(hint, value, name)
        except ValueError as error:
            problem = problem or error
    assert problem is not None, "a union has a type besides None"
    raise problem


def _tuple(arguments: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    _accept(isinstance(value, list | tuple), name, value, "a list")
    if arguments[-1] is Ellipsis:
        arguments = arguments[:1] * len(value)
    _accept(len(value) == len(arguments), name, value, f"a list of {len(arguments)}")
    pairs = enumerate(zip(arguments, value, strict=True))
    return tuple(typed(hint, item, f"{name}[{i}]") for i, (hint, item) in pairs)


def _dataclass(kind: Any, value: Any, name: str) -> Any:
    _accept(isinstance(value, Mapping), name, value, "a mapping")
    fields = [field for field in dataclasses.fields(kind) if field.init]
    known = [field.name for field in fields]
    for key in value:
        if key not in known:
            raise ValueError(f"unknown key {_in(name, key)}; accepted: {', '.join(known)}")
    for field in fields:
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and field.name not in value:
            raise ValueError(f"{_in(name, field.name)} is missing")
    hints = _hints(kind)
    given = {key: typed(hints[key], item, _in(name, key)) for key, item in value.items()}
    try:
        return kind(**given)
    except ValueError as error:
        raise ValueError(f"{name}: {error}" if name else str(error)) from error


def _in(name: str, key: object) -> str:
    key = key if isinstance(key, str) and key.isidentifier() else shown(key)
    return f"{name}.{key}" if name else f"{key}"


def _listed(values: tuple[Any, ...]) -> str:
    return ", ".join(map(repr, values))


def _accept(condition: bool, name: str, value: Any, accepted: str) -> None:
    if not condition:
        raise ValueError(f"{name or 'the content'} is {shown(value)}; accepted: {accepted}")

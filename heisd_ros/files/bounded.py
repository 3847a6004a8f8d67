"""Text and JSON read in bounded time and memory.

Every function takes `error`, which makes the exception to raise from one line of text: an error
class, or a function that adds the remedy to the line.
"""

from __future__ import annotations

import json
import os
import reprlib
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

Error = Callable[[str], Exception]
MOST_BYTES = 32 << 20
"""Largest text file that is read; a 7B model's largest is its tokenizer, 1.8 MB."""
MOST_VALUES = 1_000_000
"""Values in a JSON file, at most: a Python object takes up to a hundred times its text."""
MOST_LEVELS = 64
"""Nested lists and objects, at most."""
LONGEST_TEXT = 2000
"""Characters of a model's words in results and messages; more are cut."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlevel = 2


def shown(value: object) -> str:
    """Formats a value for an error message: on one line, and short whatever its size."""
    return _short.repr(value)


def one_line(text: str, most: int) -> str:
    """Returns foreign text as one line that a message, a terminal and a picture can hold.

    Args:
        text: the text; control characters, line ends, surrogates and other characters that are not
            printed become spaces, and spaces in a row one.
        most: characters to keep; a longer text ends in ``...``.
    """
    # Cut first: a text may be megabytes long, and what follows is a Python loop.
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    whole = len(line) <= most and len(text) <= 4 * most
    return line if whole else line[: most - 3] + "..."


def expanded(path: str | Path) -> Path:
    """Expands ``~`` in a path to the home folder; that of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))


def naming(path: Path, problem: object) -> str:
    """Makes a message that names a file exactly once."""
    return f"{problem}" if f"{problem}".startswith(f"{path}") else f"{path}: {problem}"


def check_plain(path: Path, error: Error = ValueError, most: int | None = None) -> None:
    """Checks that a path leads to a plain file; links are followed.

    Reading a pipe or a device might never end.

    Args:
        path: the file.
        error: makes the exception.
        most: bytes that it may have (None: any number).

    Raises:
        Exception: what `error` makes, where the file is missing, something else, or too large.
    """
    try:
        about = os.stat(path)
    except FileNotFoundError:
        raise error(f"{path} is missing") from None
    except (OSError, ValueError) as cause:
        raise error(f"{shown(str(path))} cannot be read: {_reason(cause)}") from cause
    if not stat.S_ISREG(about.st_mode):
        kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe, a socket or a device"
        raise error(f"{path} cannot be read: it is {kind}; accepted: a file, or a link to one")
    if most is not None and about.st_size > most:
        raise error(f"{path} has {about.st_size} bytes; accepted: up to {most}")


def read_text(path: Path, error: Error = ValueError, most: int = MOST_BYTES) -> str:
    """Reads a UTF-8 text file.

    Args:
        path: the file.
        error: makes the exception.
        most: bytes that it may have.

    Raises:
        Exception: what `error` makes, as `check_plain` and where the file is no UTF-8 text.
    """
    check_plain(path, error, most)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)  # a file of /proc says that it has no bytes
        if len(content) > most:
            raise error(f"{path} has more than {most} bytes; accepted: up to {most}")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        place = f"byte {content[cause.start]:#04x} at {cause.start}"
        raise error(f"{path} cannot be read: it is no UTF-8 text ({place})") from cause
    except OSError as cause:
        raise error(f"{path} cannot be read: {_reason(cause)}") from cause


def read_json(
    path: Path, error: Error = ValueError, most: int = MOST_BYTES, values: int = MOST_VALUES
) -> Any:
    """Reads a JSON file.

    Args:
        path: the file.
        error: makes the exception.
        most: bytes that it may have.
        values: values that it may hold.

    Raises:
        Exception: what `error` makes, as `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, error, most), f"{path}", error, values)


def read_object(
    path: Path, error: Error = ValueError, most: int = MOST_BYTES, values: int = MOST_VALUES
) -> dict[str, Any]:
    """Reads a JSON file that holds an object; arguments and errors are those of `read_json`."""
    content = read_json(path, error, most, values)
    if not isinstance(content, dict):
        raise error(f"{path} is damaged: it holds {shown(content)}; accepted: a JSON object")
    return content


def parse_json(text: str, where: str, error: Error = ValueError, values: int = MOST_VALUES) -> Any:
    """Parses JSON text.

    A key that occurs twice in one object is refused, since readers disagree on which value counts.

    Args:
        text: the text.
        where: what it is, for the message.
        error: makes the exception.
        values: values that it may hold.

    Raises:
        Exception: what `error` makes, where it is no JSON, has a doubled key, holds more values, or
            is nested deeper than `MOST_LEVELS`.
    """
    if not text.strip():
        raise error(f"{where} is damaged: it is empty; accepted: JSON")
    if sum(map(text.count, "[{,")) > values:
        raise error(f"{where} is damaged: accepted are up to {values} values")
    too_deep = f"{where} is damaged: accepted are up to {MOST_LEVELS} nested levels"
    try:
        content = json.loads(text, object_pairs_hook=_object, parse_int=_whole)
    except RecursionError:
        raise error(too_deep) from None
    except ValueError as cause:
        raise error(f"{where} is damaged: it is no JSON: {cause}") from cause
    level = [content]
    for _ in range(MOST_LEVELS):
        inner = (
            item.values() if isinstance(item, dict) else item
            for item in level
            if isinstance(item, dict | list)
        )  # fmt: skip
        level = [value for group in inner for value in group]
        if not level:
            return content
    raise error(too_deep)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(doubled)} stands twice")
    return found


def _whole(text: str) -> int | float:
    """Reads an integer as int if arrays can hold it, else as float, as `ros_yaml` does."""
    number = int(text) if len(text) <= 20 else 2**63
    return number if -(2**63) <= number < 2**63 else float(text)


def _reason(cause: Exception) -> str:
    """Returns what went wrong, without the path, which may be long."""
    return (isinstance(cause, OSError) and cause.strerror) or str(cause)

"""Small files that describe recordings, and the paths that they name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import yaml

_TEXT_LIMIT, _YAML_LIMIT, _LINE_LIMIT = 1 << 24, 1 << 21, 1 << 20


def one_line(error: BaseException) -> str:
    """Returns an error's message as one line of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."


def inside(name: str) -> bool:
    """Whether a written path stays within the folder that it is relative to.

    Only the path is checked. Files may be links to anywhere, as caches and disks use them.
    """
    path = PurePosixPath(name)
    absolute = path.is_absolute() or bool(PureWindowsPath(name).drive)
    return bool(path.name) and not absolute and ".." not in path.parts and "\0" not in name


def read_text(path: Path, limit: int = _TEXT_LIMIT) -> str:
    """Reads a small text file.

    Args:
        path: The file.
        limit: Bytes that it may have.

    Raises:
        OSError: It cannot be read, or is no file.
        ValueError: It is larger or not UTF-8.
    """
    with _opened(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit >> 20} MiB; accepted: less")
    return content.decode("utf-8-sig")


def read_yaml(path: Path) -> Any:
    """Reads a small YAML file.

    Raises:
        OSError: It cannot be read, or is no file.
        ValueError: It is larger than 2 MiB, not UTF-8 or no YAML.
    """
    text = read_text(path, _YAML_LIMIT)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it is no YAML: {error}") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of a text file that are not blank, with their numbers from 1.

    Raises:
        OSError: It cannot be read, or is no file.
        ValueError: A line is longer than 1 MiB or not UTF-8; it names the line.
    """
    with _opened(path) as file:
        number = 0
        while line := file.readline(_LINE_LIMIT + 1):
            number += 1
            if len(line) > _LINE_LIMIT:
                raise ValueError(f"line {number} has more than {_LINE_LIMIT >> 20} MiB")
            try:
                text = line.decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                raise ValueError(f"line {number} is not UTF-8: {error}") from error
            if text:
                yield number, text


def _opened(path: Path) -> BinaryIO:
    """Opens a regular file; anything else, such as a pipe, might never end."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")
    return path.open("rb")

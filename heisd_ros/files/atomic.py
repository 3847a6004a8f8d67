"""Replacing files in one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside a file, whose content replaces the file's when the block ends.

    Readers, and whoever looks after a power cut, find the old content or the new. After an error
    the old content stays, and nothing is left beside it.

    Args:
        path: the file; its folder is made where it does not exist.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process's own: two that write the same file at once do not mix.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file as `replacing` does."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

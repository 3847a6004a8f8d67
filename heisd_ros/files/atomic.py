"""Atomic replacement of files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside a file, whose content replaces the file's when the block ends.

    Readers find the old content or the new, also after a power failure. After an error the old
    content stays, and no temporary file is left.

    Args:
        path: the file; its folder is made where it does not exist.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named after the process: two that write the same file at once do not mix.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        put_in_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def put_in_place(partial: Path, path: Path) -> None:
    """Replaces a file by a complete one beside it, as `replacing` does."""
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


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

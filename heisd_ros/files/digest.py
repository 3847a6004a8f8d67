"""What a file's content is told apart by."""

from __future__ import annotations

import hashlib
from pathlib import Path

_CHUNK = 2**20  # bytes read at a time


def file_sha256(path: Path) -> bytes:
    """sha256 of a file of any size, 32 bytes. Python 3.10 has no `hashlib.file_digest`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()

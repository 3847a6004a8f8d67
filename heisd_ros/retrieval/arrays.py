"""Files of a database: mapped arrays and checksums."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import DatabaseError


def map_array(path: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Maps a ``.npy`` file.

    Raises:
        DatabaseError: it is missing, cannot be read, or has another shape or type.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatabaseError(f"{path} cannot be read: {error}") from error
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise DatabaseError(
            f"{path} holds {array.dtype} of shape {array.shape}; the manifest says "
            f"{np.dtype(dtype)} of {shape}. Build the database anew with `heisd db build`"
        )
    return array


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

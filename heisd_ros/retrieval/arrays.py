"""Files of a database: mapped arrays and checksums."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import DatabaseError
from heisd_ros.files.bounded import check_plain
from heisd_ros.files.digest import file_sha256


def map_array(path: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Maps a ``.npy`` file.

    Raises:
        DatabaseError: it is missing, cannot be read, or has another shape or type.
    """
    check_plain(path, DatabaseError)
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses a header with Python's own parser and tokenizer
        reason = " ".join(str(error).split())[:200]
        raise DatabaseError(f"{path} cannot be read as a .npy file: {reason}") from error
    if not isinstance(array, np.ndarray):
        raise DatabaseError(f"{path} holds several arrays; accepted: a .npy file")
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise DatabaseError(
            f"{path} holds {array.dtype} of shape {array.shape}; the manifest says "
            f"{np.dtype(dtype)} of {shape}. Build the database again with `heisd db build`"
        )
    return array


def check_finite(path: Path, array: NDArray[Any]) -> None:
    """Raises DatabaseError, with the file's path, where a number of its array is not finite."""
    if not np.isfinite(array).all():
        raise DatabaseError(
            f"{path} holds numbers that are not finite; build the database again with "
            "`heisd db build`"
        )


class RowsOnDisk:
    """A mapped ``.npy`` file's rows, read as they are asked for.

    A mapped page counts as the process's own memory once it was touched, and a search touches all
    of them in time; what is read stays with the system, which gives it up where memory is short.
    A file that was cut off since is an error here, where a mapped one ends the process.

    Args:
        path: the file; it stays open, so that one which takes its name changes nothing.
        mapped: of `map_array`: where its rows lie.

    Raises:
        DatabaseError: it cannot be opened.
    """

    def __init__(self, path: Path, mapped: NDArray[Any]) -> None:
        self._path = path
        self._dtype, self._row = mapped.dtype, mapped.shape[1:]
        self._count, self._row_bytes = len(mapped), mapped[:1].nbytes
        self._start: int = getattr(mapped, "offset", 0)
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DatabaseError(f"{path} cannot be read: {error}") from error
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        """Number of rows."""
        return self._count

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Copies of some rows, by number from 0.

        Raises:
            DatabaseError: the file is shorter than it was.
        """
        found = np.empty((len(rows), *self._row), self._dtype)
        for place, row in zip(found, rows.tolist(), strict=True):
            read = os.preadv(self._file, [place], self._start + row * self._row_bytes)
            if read != self._row_bytes:
                raise DatabaseError(
                    f"{self._path} was cut off: row {row} has {read} of {self._row_bytes} bytes; "
                    "copy the database again, or build it again with `heisd db build`"
                )
        return found


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    return file_sha256(path).hex()

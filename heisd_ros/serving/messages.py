"""Messages as openpi's `msgpack_numpy` writes them: msgpack, with NumPy arrays as small mappings.

Only numbers, texts and arrays of numbers are read: no object, no extension type, no pickle.
"""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn

import msgpack
import numpy as np

from heisd_ros.errors import MessageError

MAX_BYTES = 32 * 2**20
"""Largest message that a server takes: five raw pictures of 1920 x 1080 pixels."""
MAX_REPLY_BYTES = 2**20
"""Largest message that a client takes: 1,000 actions of 64 numbers, twice. While it is read, no
other thread of the node runs."""
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_MOST_ITEMS, _MOST_AXES = 4096, 8
_MOST_VALUES = 16_384
"""Values of all lists and mappings of a message: an empty list takes one byte, and 64 in memory."""


def pack(message: dict[str, Any]) -> bytes:
    """Serialises a message.

    Raises:
        MessageError: It holds a value that is neither number nor text.
    """
    try:
        return msgpack.packb(message, default=_plain)
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageError(f"cannot be sent: {error}") from error


def unpack(data: bytes, most: int = MAX_BYTES) -> dict[str, Any]:
    """Reads a message; its arrays are copies.

    Args:
        data: The message.
        most: Bytes that it may have.

    Raises:
        MessageError: The data are no message, too long, or hold too many values, or one that is
            neither number nor text.
    """
    if len(data) > most:
        raise MessageError(f"a message of {len(data)} bytes; accepted: up to {most}")
    values = 0

    def counted(group: Any) -> Any:
        nonlocal values
        values += 1 + len(group)
        if values > _MOST_VALUES:
            raise MessageError(f"a message of more than {_MOST_VALUES} values")
        return group

    try:
        message = msgpack.unpackb(
            data,
            object_hook=lambda mapping: _read(counted(mapping)),
            list_hook=counted,
            ext_hook=_refuse_extension,
            max_array_len=_MOST_ITEMS,
            max_map_len=_MOST_ITEMS,
        )
    except MessageError:
        raise
    except Exception as error:  # msgpack's own, and those of bytes that are no text
        raise MessageError(f"not a msgpack message: {type(error).__name__}: {error}") from error
    if not isinstance(message, dict):
        raise MessageError(f"a message is a mapping, got {type(message).__name__}")
    return message


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"a {type(value).__name__} is neither number nor text")
    if not _DTYPE.fullmatch(value.dtype.str):
        raise TypeError(f"dtype is {value.dtype.str!r}; accepted: numbers")
    if isinstance(value, np.ndarray):
        array = {b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
        return {b"__ndarray__": True, **array}
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


def _read(mapping: dict[Any, Any]) -> Any:
    if b"__ndarray__" in mapping:
        return _array(mapping)
    if b"__npgeneric__" in mapping:
        value = mapping.get(b"data")
        if not isinstance(value, bool | int | float):
            raise MessageError(f"a number is a {type(value).__name__}")
        try:
            return _dtype(mapping).type(value)
        except OverflowError as error:
            raise MessageError(str(error)) from error
    return mapping


def _array(mapping: dict[Any, Any]) -> np.ndarray:
    dtype, data, shape = _dtype(mapping), mapping.get(b"data"), mapping.get(b"shape")
    if not isinstance(data, bytes) or not isinstance(shape, list) or len(shape) > _MOST_AXES:
        raise MessageError("an array lacks its data or its shape")
    if any(type(side) is not int or side < 0 for side in shape):
        raise MessageError(f"an array's shape is {shape}; accepted: whole numbers, not negative")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise MessageError(f"an array of shape {shape} and dtype {dtype} has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _dtype(mapping: dict[Any, Any]) -> np.dtype:
    name = mapping.get(b"dtype")
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise MessageError(f"an array's dtype is {name!r}; accepted: numbers, such as '<f4'")
    return np.dtype(name)


def _refuse_extension(code: int, _: bytes) -> NoReturn:
    raise MessageError(f"msgpack's extension type {code} is not accepted")

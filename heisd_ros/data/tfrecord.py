"""TFRecord files of `tf.train.Example` messages, written without TensorFlow.

A record is its length, the length's checksum, the content and its checksum (tensorflow,
`tsl/lib/io/record_writer.h`). The message is protobuf's wire format of `tensorflow/core/example`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import BinaryIO

import numpy as np

Values = Sequence[bytes] | np.ndarray
"""Of a feature: texts or encoded pictures, or numbers: floats, or whole numbers and booleans."""
MOST_BYTES = (1 << 31) - 1
"""Largest protobuf message."""
_LANE = 2048
"""Bytes whose checksums are computed at the same time, each by its own lane."""


def write_record(file: BinaryIO, content: bytes) -> None:
    """Appends a record.

    Raises:
        OSError: It cannot be written.
    """
    length = struct.pack("<Q", len(content))
    file.write(length + struct.pack("<I", _masked(length)))
    file.write(content)
    file.write(struct.pack("<I", _masked(content)))


def example(features: Mapping[str, Values]) -> bytes:
    """Encodes a `tf.train.Example`.

    Raises:
        ValueError: It is larger than protobuf can read.
    """
    entries = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _feature(values)))
        for name, values in sorted(features.items())
    )
    if len(entries) > MOST_BYTES:
        raise ValueError(f"it takes {len(entries)} bytes; accepted: up to {MOST_BYTES}")
    return _field(1, entries)


def crc32c(content: bytes) -> int:
    """Computes the CRC-32C (Castagnoli) of at least 4 bytes."""
    data = np.frombuffer(content, np.uint8).copy()
    data[:4] ^= 0xFF  # the register's initial ones
    # Zeros in front leave a register of zeros as it is.
    lanes = np.concatenate([np.zeros(-len(data) % _LANE, np.uint8), data]).reshape(-1, _LANE)
    shifted, register = _shift_tables(), 0
    for lane in _registers(lanes).tolist():
        register = lane ^ (
            shifted[0][register & 255]
            ^ shifted[1][register >> 8 & 255]
            ^ shifted[2][register >> 16 & 255]
            ^ shifted[3][register >> 24]
        )
    return register ^ 0xFFFFFFFF


def _masked(content: bytes) -> int:
    checksum = crc32c(content)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _registers(lanes: np.ndarray, start: np.ndarray | int = 0) -> np.ndarray:
    """Passes each row of bytes through a register of its own; returns what they then hold."""
    table = _byte_table()
    register = np.zeros(len(lanes), np.uint32) ^ np.asarray(start, np.uint32)
    for column in lanes.T:
        register = table[(register ^ column) & 0xFF] ^ (register >> np.uint32(8))
    return register


@lru_cache(maxsize=1)
def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ np.where(table & 1, np.uint32(0x82F63B78), np.uint32(0))
    return table


@lru_cache(maxsize=1)
def _shift_tables() -> list[list[int]]:
    """For each byte of a register, what its values become while `_LANE` zeros pass."""
    starts = np.arange(256, dtype=np.uint32) << (8 * np.arange(4, dtype=np.uint32)[:, None])
    zeros = np.zeros((starts.size, _LANE), np.uint8)
    found: list[list[int]] = _registers(zeros, starts.ravel()).reshape(4, 256).tolist()
    return found


def _feature(values: Values) -> bytes:
    """Encodes a `tf.train.Feature`: a list of bytes, floats or 64-bit integers."""
    if not isinstance(values, np.ndarray):
        return _field(1, b"".join(_field(1, value) for value in values))
    if values.dtype.kind == "f":
        return _field(2, _field(1, values.astype("<f4").tobytes()))
    return _field(3, _field(1, b"".join(map(_varint, values.ravel().tolist()))))


def _field(number: int, content: bytes) -> bytes:
    """Encodes a field whose content has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    return bytes(_sevens(int(value) & 0xFFFFFFFFFFFFFFFF))


def _sevens(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value

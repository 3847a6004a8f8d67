"""Reads TFRecord files and `tf.train.Example` messages byte by byte, as their definitions say."""

from __future__ import annotations

import struct

import numpy as np


def checksum(content):
    """CRC-32C, one bit after the other, masked as TFRecord does."""
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    register ^= 0xFFFFFFFF
    return ((register >> 15 | register << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def records(path, check=True):
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        (first,), (last,) = (struct.unpack("<I", content[a : a + 4]) for a in (8, 12 + length))
        body = content[12 : 12 + length]
        if check:
            assert (checksum(content[:8]), checksum(body)) == (first, last)
        yield features(body)
        content = content[16 + length :]


def features(message):
    """Values by name: bytes, float32 or int64."""
    (inner,) = (value for _, value in fields(message))
    found = {}
    for _, entry in fields(inner):
        (_, name), (_, feature) = fields(entry)
        ((kind, listed),) = fields(feature)
        values = [value for _, value in fields(listed)]
        if kind == 2:
            values = np.frombuffer(b"".join(values), "<f4")
        elif kind == 3:
            values = np.array(list(varints(b"".join(values))))
        found[name.decode()] = values
    return found


def fields(message):
    """(number, content) of fields that have a length."""
    while message:
        head, message = varint(message)
        assert head & 7 == 2, "all fields of an Example have a length"
        length, message = varint(message)
        yield head >> 3, message[:length]
        message = message[length:]


def varints(content):
    while content:
        value, content = varint(content)
        yield value


def varint(content):
    value = shift = 0
    for place, byte in enumerate(content):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, content[place + 1 :]
    raise AssertionError("a number without an end")

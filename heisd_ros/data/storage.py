"""The protocol of a recording's storage files, whatever their format."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from lz4.frame import LZ4FrameFile
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from zstandard import ZstdDecompressor

from heisd_ros.errors import BagError

LIMIT = 1 << 28
"""A record, chunk or message that claims more bytes than this is damage, and is not read."""
_FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
}
_NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")


@dataclass(frozen=True)
class Stored:
    """A connection of one storage file: topic, type, and the type's definition if it is there."""

    topic: str
    type: str
    definition: MessageDefinition


class Storage(Protocol):
    """One storage file.

    Attributes:
        connections: The ROS 2 topics that it holds.
        foreign: What else it holds: the encoding by topic.
        start: When its first message was received, ns; None where it has none.
        damage: Where its bytes end early or are damaged; empty where nothing is known of any.
    """

    connections: list[Stored]
    foreign: dict[str, str]
    start: int | None
    damage: str

    def messages(
        self, topics: Collection[str], start: int, stop: int
    ) -> Iterator[tuple[Stored, int, bytes]]:
        """Yields connection, receive time (ns) and bytes, received from `start` to before `stop`.

        On damage it may raise any exception.
        """
        ...


def definition(encoding: str, text: str) -> MessageDefinition:
    """Makes a type's definition; an empty one if its encoding is unknown."""
    form = _FORMATS.get(encoding)
    return _NO_DEFINITION if form is None else MessageDefinition(form, text)


def decompressed(data: bytes, compression: str) -> bytes:
    """Decompresses bytes.

    Args:
        data: As stored.
        compression: Empty, `lz4` or `zstd`.

    Raises:
        BagError: The compression is another one, or there are more than `LIMIT` bytes.
        Exception: The data are damaged.
    """
    if compression not in ("", "lz4", "zstd"):
        raise BagError(f"compression is {compression!r}; accepted: none, 'lz4' or 'zstd'")
    if not compression:
        return data
    packed = io.BytesIO(data)
    plain = LZ4FrameFile(packed) if compression == "lz4" else _ZSTD.stream_reader(packed)
    found: bytes = plain.read(LIMIT + 1)
    if len(found) > LIMIT:
        raise BagError(f"more than {LIMIT >> 20} MiB in one piece; accepted: less")
    return found


_ZSTD = ZstdDecompressor()

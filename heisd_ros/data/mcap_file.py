"""One mcap file, read by its index or, if that is incomplete, without it."""

from __future__ import annotations

import heapq
import io
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import read_magic

from heisd_ros.data.storage import LIMIT, Stored, decompressed, definition
from heisd_ros.data.text_files import one_line
from heisd_ros.errors import BagError

_HEAD = struct.Struct("<BQ")
_INDEX_HEAD, _INDEX_ENTRY = 15, 16
"""Bytes of a message index: of itself, and of each message."""
_READ: dict[int, Callable[[bytes], McapRecord]] = {
    Opcode.SCHEMA: lambda body: Schema.read(_stream(body)),
    Opcode.CHANNEL: lambda body: Channel.read(_stream(body)),
    Opcode.CHUNK: lambda body: Chunk.read(_stream(body)),
    Opcode.MESSAGE: lambda body: Message.read(_stream(body), len(body)),
}
_ENCODINGS = ("ros2msg", "ros2idl", "omgidl", "")
"""Of ROS 2 schemas; recorders leave it empty where they have no definition."""


@dataclass(frozen=True, order=True)
class _Piece:
    """A chunk, or a message outside of chunks.

    Attributes:
        start: Receive time of its first message, ns.
        end: Receive time of its last message, ns.
        place: Offset of its first byte in the file.
        channels: Channels of its messages.
    """

    start: int
    end: int
    place: int
    channels: frozenset[int]


class McapFile:
    """A `Storage`. Messages come in order of time, whatever the order of chunks.

    The index is taken where it tells of every message that the file counts. Otherwise the file is
    read once from front to back, as far as its bytes are good.

    Raises:
        Exception: It is no mcap file; the library raises errors of many kinds.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.damage = path, ""
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._pieces: list[_Piece] = []
        if not self._take_index():
            self._scan()
        self.foreign: dict[str, str] = {}
        self._stored: dict[int, Stored] = {}
        for number, channel in self._channels.items():
            self._take_channel(number, channel)
        self.connections = list(self._stored.values())
        self.start = min((piece.start for piece in self._pieces), default=None)

    def messages(
        self, topics: Collection[str], start: int, stop: int
    ) -> Iterator[tuple[Stored, int, bytes]]:
        """Yields messages in order of time; see `Storage.messages`."""
        wanted = {n: stored for n, stored in self._stored.items() if stored.topic in topics}
        waiting: list[tuple[int, int, Message]] = []
        count = 0
        with self._path.open("rb") as file:
            for piece in sorted(self._pieces):
                if (
                    piece.end < start
                    or piece.start >= stop
                    or wanted.keys().isdisjoint(piece.channels)
                ):
                    continue
                while waiting and waiting[0][0] < piece.start:
                    yield self._found(heapq.heappop(waiting)[2])
                for message in _parts(_record(file, piece.place)):
                    if (
                        isinstance(message, Message)
                        and message.channel_id in wanted
                        and start <= message.log_time < stop
                    ):
                        heapq.heappush(waiting, (message.log_time, count, message))
                        count += 1
            while waiting:
                yield self._found(heapq.heappop(waiting)[2])

    def _found(self, message: Message) -> tuple[Stored, int, bytes]:
        return self._stored[message.channel_id], message.log_time, message.data

    def _take_index(self) -> bool:
        """Reads the index; returns False if there is none, or it lists too few messages."""
        with self._path.open("rb") as file:
            try:
                summary = SeekingReader(file, record_size_limit=LIMIT).get_summary()
            except Exception:  # the library's errors on damage are of many kinds
                return False
        if summary is None or summary.statistics is None:
            return False
        counted, chunks, indexed = summary.statistics, summary.chunk_indexes, 0
        for chunk in chunks:
            heads = _INDEX_HEAD * len(chunk.message_index_offsets)
            indexed += (chunk.message_index_length - heads) // _INDEX_ENTRY
        if (len(summary.channels), len(chunks), indexed) != (
            counted.channel_count,
            counted.chunk_count,
            counted.message_count,
        ):
            return False
        known = {0, *summary.schemas}
        if any(channel.schema_id not in known for channel in summary.channels.values()):
            return False
        self._schemas, self._channels = summary.schemas, summary.channels
        self._pieces = [
            _Piece(
                chunk.message_start_time,
                chunk.message_end_time,
                chunk.chunk_start_offset,
                frozenset(chunk.message_index_offsets),
            )
            for chunk in chunks
        ]
        return True

    def _scan(self) -> None:
        """Reads the file from front to back, until its end or the first damage."""
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            read_magic(ReadDataStream(file))
            place = file.tell()
            try:
                while True:
                    file.seek(place)
                    opcode, length = _HEAD.unpack(file.read(_HEAD.size))
                    _check_opcode(opcode, place)
                    end = place + _HEAD.size + length
                    if end > size:
                        raise BagError(f"the record at byte {place} ends behind the file's end")
                    if opcode == Opcode.FOOTER:
                        return
                    if opcode in _READ:
                        self._take(place, _record(file, place))
                    place = end
            except struct.error:
                self.damage = f"its bytes end at {place}, before its footer"
            except Exception as error:  # the library's errors on damage are of many kinds
                self.damage = one_line(error)

    def _take(self, place: int, record: McapRecord) -> None:
        times, channels = [], set()
        for part in _parts(record):
            if isinstance(part, Schema):
                self._schemas[part.id] = part
            elif isinstance(part, Channel):
                self._channels[part.id] = part
            elif isinstance(part, Message):
                times.append(part.log_time)
                channels.add(part.channel_id)
        if times:
            self._pieces.append(_Piece(min(times), max(times), place, frozenset(channels)))

    def _take_channel(self, number: int, channel: Channel) -> None:
        schema = self._schemas.get(channel.schema_id)
        if channel.message_encoding != "cdr":
            self.foreign[channel.topic] = channel.message_encoding or "no encoding"
        elif schema is None or not schema.name:
            self.foreign[channel.topic] = "cdr without a schema"
        elif schema.encoding not in _ENCODINGS:
            self.foreign[channel.topic] = schema.encoding
        else:
            text = schema.data.decode(errors="replace")
            self._stored[number] = Stored(
                channel.topic, schema.name, definition(schema.encoding, text)
            )


def _stream(body: bytes) -> ReadDataStream:
    return ReadDataStream(io.BytesIO(body))


def _record(file: IO[bytes], place: int) -> McapRecord:
    file.seek(place)
    opcode, length = _HEAD.unpack(file.read(_HEAD.size))
    if opcode not in _READ or length > LIMIT:
        raise BagError(f"the record at byte {place} has {length} bytes; accepted: to {LIMIT}")
    return _READ[opcode](file.read(length))


def _parts(record: McapRecord) -> list[McapRecord]:
    """The records of a chunk, or the record itself."""
    if not isinstance(record, Chunk):
        return [record]
    plain = decompressed(record.data, record.compression)
    if len(plain) != record.uncompressed_size:
        raise BagError(f"a chunk has {len(plain)} bytes, not {record.uncompressed_size}")
    if record.uncompressed_crc not in (0, zlib.crc32(plain)):
        raise BagError("the checksum of a chunk is wrong")
    found, place = [], 0
    while place < len(plain):
        opcode, length = _HEAD.unpack_from(plain, place)
        _check_opcode(opcode, place)
        place += _HEAD.size + length
        if opcode in _READ:
            found.append(_READ[opcode](plain[place - length : place]))
    return found


def _check_opcode(opcode: int, place: int) -> None:
    """Refuses zeros, with which a file system fills what a recorder could not write."""
    if opcode == 0:
        raise BagError(f"there are zeros at byte {place}")

"""The storage files of a rosbag2 recording, whole or cut off, one after another."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import yaml
from mcap.records import Channel, Chunk, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from zstandard import ZstdDecompressor

from heisd_ros.errors import BagError

FOREVER = 2**63 - 1
"""Later than any message, ns."""
METADATA = "metadata.yaml"
SUFFIXES = (".mcap", ".db3")
_ZSTD = ".zstd"
_FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
_NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")
_RECORD_LIMIT = 1 << 30
"""A record that claims more bytes than this is damage, and not read into memory."""


@dataclass(frozen=True)
class Stored:
    """A connection of one storage file: topic, type, and the type's definition if it is there."""

    topic: str
    type: str
    definition: MessageDefinition


class Storage(Protocol):
    """One storage file.

    Attributes:
        connections: What it holds.
    """

    connections: list[Stored]

    def messages(
        self, topics: Collection[str], start: int, stop: int
    ) -> Iterator[tuple[Stored, int, bytes]]:
        """Connection, receive time (ns) and CDR bytes, received from `start` until before `stop`.

        Raises whatever damage leads to.
        """
        ...


@dataclass(frozen=True)
class Layout:
    """Which files a recording consists of.

    Attributes:
        files: In order of time.
        file_compressed: Each file is zstd as a whole.
        message_compressed: Each message is zstd.
        custom: What the recorder noted beside the messages.
        damage: What is amiss already, or empty.
    """

    files: list[Path]
    file_compressed: bool = False
    message_compressed: bool = False
    custom: dict[str, str] | None = None
    damage: str = ""


def layout_of(path: Path) -> Layout:
    """Finds the storage files of a bag.

    Args:
        path: A rosbag2 folder or one storage file.

    Raises:
        BagError: There is none, or metadata.yaml is malformed or names files outside the folder.
    """
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise BagError(f"{path} is no bag; accepted: a rosbag2 folder or a file {SUFFIXES}")
        return Layout([path])
    if not path.is_dir():
        raise BagError(f"{path} does not exist; accepted: a rosbag2 folder or a file {SUFFIXES}")
    if (path / METADATA).is_file():
        return _from_metadata(path)
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not files:
        raise BagError(f"{path} is no bag: it has neither {METADATA} nor a file {SUFFIXES}")
    return Layout(files, damage=f"{path / METADATA} is missing: the recorder did not end well")


def _from_metadata(folder: Path) -> Layout:
    place = folder / METADATA
    try:
        values = yaml.safe_load(place.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        names = [str(name) for name in values["relative_file_paths"]]
        mode = str(values.get("compression_mode") or "").lower()
        scheme = str(values.get("compression_format") or "")
        custom = values.get("custom_data") or None
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise BagError(f"{place} is no rosbag2 metadata: {' '.join(repr(error).split())}") from None
    if mode in ("file", "message") and scheme != "zstd":
        raise BagError(f"{place}: compression_format is {scheme!r}; accepted: 'zstd'")
    files = []
    for name in names:
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise BagError(f"{place} names {name!r}; accepted: files inside the bag's folder")
        files.append(file)
    missing = [file.name for file in files if not file.is_file()]
    if not files or len(missing) == len(files):
        raise BagError(f"{place} names {names}, of which no file is there")
    return Layout(
        files=[file for file in files if file.is_file()],
        file_compressed=mode == "file",
        message_compressed=mode == "message",
        custom=custom,
        damage=f"{missing} named in {place} are missing" if missing else "",
    )


def unpack(file: Path, stack: ExitStack) -> tuple[Path, str]:
    """A storage file without the compression around it, and why it ends early, if so.

    Args:
        file: As in the bag.
        stack: Removes the unpacked file when it is closed.

    Raises:
        OSError: It cannot be read, or there is no room to unpack it.
    """
    folder = stack.enter_context(TemporaryDirectory())
    target, damage = Path(folder) / file.name.removesuffix(_ZSTD), ""
    with file.open("rb") as packed, target.open("wb") as plain:
        try:
            shutil.copyfileobj(ZstdDecompressor().stream_reader(packed), plain)
        except Exception as error:  # zstd raises errors of its own; what came before is kept
            if isinstance(error, OSError):
                raise
            damage = f"compressed data end early ({error})"
    return target, damage


class WholeFile:
    """A storage file that rosbags opens.

    Raises:
        Exception: rosbags raises many kinds of errors for damage, and for what is no bag.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        reader = Reader(path)
        reader.open()
        stack.callback(reader.close)
        self._reader = reader
        self.connections = [self._stored(one) for one in reader.connections]

    @staticmethod
    def _stored(connection: Connection) -> Stored:
        return Stored(connection.topic, connection.msgtype, connection.msgdef)

    def messages(
        self, topics: Collection[str], start: int, stop: int
    ) -> Iterator[tuple[Stored, int, bytes]]:
        """See `Storage`."""
        wanted = [one for one in self._reader.connections if one.topic in topics]
        if wanted:
            for connection, stamp, data in self._reader.messages(wanted, start, stop):
                yield self._stored(connection), stamp, data


class CutMcap:
    """An mcap file without its end: read from the front, a chunk at a time, without the index.

    Raises:
        Exception: It is no mcap file, or its first chunk is not whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._channels: dict[int, Stored] = {}
        for _ in self._records(()):
            pass
        self.connections = list(self._channels.values())

    def messages(
        self, topics: Collection[str], start: int, stop: int
    ) -> Iterator[tuple[Stored, int, bytes]]:
        """See `Storage`."""
        for message in self._records(topics, whole=False):
            if start <= message.log_time < stop:
                yield self._channels[message.channel_id], message.log_time, message.data

    def _records(self, topics: Collection[str], whole: bool = True) -> Iterator[Message]:
        """Messages of some topics, in order within a chunk.

        Args:
            topics: Which.
            whole: End quietly where the file does, instead of raising.
        """
        schemas: dict[int, Schema] = {}
        with self._path.open("rb") as file:
            records = StreamReader(file, emit_chunks=True, record_size_limit=_RECORD_LIMIT).records
            try:
                for record in records:
                    parts = breakup_chunk(record, True) if isinstance(record, Chunk) else [record]
                    found: list[Message] = []
                    for part in parts:
                        self._note(part, schemas)
                        if isinstance(part, Message) and self._topic(part) in topics:
                            found.append(part)
                    yield from sorted(found, key=lambda message: message.log_time)
            except Exception:  # the library's errors on damage are of many kinds
                if not whole or not self._channels:
                    raise

    def _topic(self, message: Message) -> str:
        return self._channels[message.channel_id].topic

    def _note(self, record: Any, schemas: dict[int, Schema]) -> None:
        """Takes notice of a schema or channel."""
        if isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel):
            schema = schemas[record.schema_id]
            form = _FORMATS.get(schema.encoding, MessageDefinitionFormat.NONE)
            self._channels[record.id] = Stored(
                record.topic, schema.name, MessageDefinition(form, schema.data.decode())
            )


class CutSqlite:
    """A SQLite file with damage: its rows in the order written, as far as they can be read.

    Raises:
        sqlite3.Error: It is no SQLite file, or its table of topics is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connect()) as database:
            rows = database.execute("SELECT id, name, type FROM topics").fetchall()
        self._topics = {row[0]: Stored(row[1], row[2], _NO_DEFINITION) for row in rows}
        self.connections = list(self._topics.values())

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(f"{self._path.absolute().as_uri()}?immutable=1", uri=True)
        # Without it SQLite opens no file that is shorter than its header says.
        database.execute("PRAGMA writable_schema = ON")
        return database

    def messages(
        self, topics: Collection[str], start: int, stop: int
    ) -> Iterator[tuple[Stored, int, bytes]]:
        """See `Storage`."""
        with closing(self._connect()) as database:
            rows = database.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY id")
            for topic, stamp, data in rows:
                if self._topics[topic].topic in topics and start <= stamp < stop:
                    yield self._topics[topic], stamp, data


def open_storage(path: Path, stack: ExitStack) -> tuple[Storage, str]:
    """Opens one storage file, cut off or not.

    Returns:
        The file, and what is wrong with it, or empty.

    Raises:
        BagError: Nothing of it can be read.
    """
    try:
        return WholeFile(path, stack), ""
    except Exception as error:  # rosbags raises errors of many kinds on damage
        damage = " ".join(str(error).split())
    try:
        cut: Storage = CutMcap(path) if path.suffix == ".mcap" else CutSqlite(path)
    except Exception as error:
        raise BagError(f"{path} cannot be read as a bag: {damage}") from error
    if not cut.connections:
        raise BagError(f"{path} cannot be read as a bag: {damage}")
    return cut, f"{path.name} is cut off or damaged ({damage})"

"""Reading rosbag2 recordings without ROS, through the library rosbags.

Messages are rosbags' own objects: fields have the names that ROS gives them, but arrays of numbers
are numpy arrays (`Image.data`, `JointState.position`), and there are no methods.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from heisd_ros.data.bag_files import FOREVER, METADATA, layout_of, open_storage
from heisd_ros.data.storage import Storage, Stored, decompressed
from heisd_ros.data.text_files import one_line
from heisd_ros.errors import BagError

_IDL_RULE = "=" * 80 + "\n"
"""Separator before each file of an IDL definition, as rosbag2 writes it."""
_ZSTD = b"\x28\xb5\x2f\xfd"
"""First bytes of data compressed with zstd; a message in CDR begins with 0."""


@dataclass(frozen=True)
class BagMessage:
    """One recorded message.

    Attributes:
        topic: Topic on which it was published.
        type: For instance `sensor_msgs/msg/JointState`.
        stamp_ns: When the recorder received it, ns.
        message: Its fields by their ROS names; arrays of numbers are numpy arrays.
        data: The message in CDR, as it was sent.
    """

    topic: str
    type: str
    stamp_ns: int
    message: Any
    data: bytes


class Bag:
    """A rosbag2 recording: a folder, or one `.mcap` or `.db3` file.

    It reads mcap and SQLite, split or not, compressed by chunk, message or file. Types that the
    file defines are read with its own definitions, others with those of ROS 2 Jazzy. Anything but
    ROS 2 messages in CDR is left out. Use it as a context manager.

    Attributes:
        path: Path of the recording.
        topics: Type by topic. A topic with two types has both, joined by " and ".
        custom: Texts that the recorder noted in metadata.yaml.
        foreign: Encoding by topic of what is left out.
        damage: Where bytes are missing or damaged; empty if the recording is complete. The rest
            can be read. It is filled while messages are read, so inspect it afterwards.
        remarks: Other remarks, one line each; none of them means a loss.
        unreadable: Counts messages that were left out because they cannot be decoded, by topic.

    Raises:
        BagError: On entering: the path is missing, is no bag, or cannot be read at all.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.topics: dict[str, str] = {}
        self.custom: dict[str, str] = {}
        self.foreign: dict[str, str] = {}
        self.damage = ""
        self.remarks: list[str] = []
        self.unreadable: Counter[str] = Counter()
        self._stack = ExitStack()
        self._storages: list[tuple[str, Storage]] = []
        self._types = get_typestore(Stores.EMPTY)

    def __enter__(self) -> Bag:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._storages = []
        self._stack.close()

    def require(self, wanted: Mapping[str, Collection[str]]) -> None:
        """Checks that topics are there and of an accepted type.

        Raises:
            BagError: Names the first topic that is missing or has another type.
        """
        for topic, types in wanted.items():
            found = self._type_of(topic)
            if found not in types:
                raise BagError(
                    f"{self.path}: {topic} has type {found}; accepted: {' or '.join(sorted(types))}"
                )

    def messages(
        self, topics: Collection[str], start_ns: int = 0, stop_ns: int = FOREVER
    ) -> Iterator[BagMessage]:
        """Yields the messages of some topics in order of their reception.

        Ends early, and says so in `damage`, where the recording is truncated or damaged.

        Args:
            topics: The topics.
            start_ns: Only what was received at this time or later.
            stop_ns: Only what was received before this time.

        Raises:
            BagError: A topic is missing, has two types, or a type that is defined nowhere.
        """
        for topic in topics:
            kind = self._type_of(topic)
            if " and " in kind:
                raise BagError(f"{self.path}: {topic} has types {kind}; accepted: one")
            self._define(kind)
        return self._read(frozenset(topics), start_ns, stop_ns)

    def _open(self) -> None:
        layout = layout_of(self.path)
        self.custom = layout.custom
        if layout.missing:
            self._note(f"{layout.missing} named in {self.path / METADATA} are missing")
        if layout.unnamed:
            self.remarks.append(f"left out: {layout.unnamed}, which {METADATA} does not name")
        refused: list[BagError] = []
        for file in layout.files:
            try:
                storage, remark = open_storage(file, self._stack)
            except BagError as error:
                refused.append(error)
                self._note(str(error))
                continue
            self._storages.append((file.name, storage))
            self.foreign |= storage.foreign
            self.remarks += [remark] if remark else []
            if storage.damage:
                self._note(f"{file.name} is cut off or damaged ({storage.damage})")
        if not self._storages:
            raise refused[0]
        if layout.unordered:
            self._storages.sort(key=lambda named: (named[1].start or 0, named[0]))
            many = len(self._storages) > 1
            ordered = "; its files are taken in order of their first messages" if many else ""
            self.remarks.append(layout.unordered + ordered)
        self.remarks += [
            f"left out: {topic} ({encoding}, no ROS 2 message)"
            for topic, encoding in sorted(self.foreign.items())
        ]
        kinds: dict[str, list[str]] = {}
        for stored in self._connections():
            known = kinds.setdefault(stored.topic, [])
            if stored.type not in known:
                known.append(stored.type)
        self.topics = {topic: " and ".join(known) for topic, known in sorted(kinds.items())}

    def _connections(self) -> Iterator[Stored]:
        for _, storage in self._storages:
            yield from storage.connections

    def _note(self, damage: str) -> None:
        if damage and damage not in self.damage:
            self.damage = f"{self.damage}; {damage}" if self.damage else damage

    def _type_of(self, topic: str) -> str:
        if topic in self.topics:
            return self.topics[topic]
        if topic in self.foreign:
            raise BagError(
                f"{self.path}: {topic} is in {self.foreign[topic]}; accepted: ROS 2 messages in "
                "cdr, with their type"
            )
        near = difflib.get_close_matches(topic, self.topics, 3, 0.3) or sorted(self.topics)[:8]
        raise BagError(f"{self.path} has no topic {topic}; there are, among others, {near}")

    def _define(self, kind: str) -> None:
        """Registers a type, from the bag's own definition or else from ROS's."""
        if kind in self._types.fielddefs:
            return
        try:
            defined = next(
                (
                    _parsed(stored)
                    for stored in self._connections()
                    if stored.type == kind and stored.definition.format.name != "NONE"
                ),
                get_typestore(Stores.ROS2_JAZZY).fielddefs,
            )
            known = self._types.fielddefs
            self._types.register({k: v for k, v in defined.items() if k not in known})
            self._types.get_msgdef(kind)
        except Exception as error:  # a parser's errors are of many kinds
            raise BagError(
                f"{self.path}: messages of type {kind} cannot be read ({one_line(error)}); "
                "record with a recorder that writes message definitions, as mcap's does"
            ) from error

    def _read(self, topics: frozenset[str], start: int, stop: int) -> Iterator[BagMessage]:
        for name, storage in self._storages:
            last: int | None = None
            try:
                for stored, stamp, data in storage.messages(topics, start, stop):
                    last = stamp
                    message = self._decoded(stored, stamp, data)
                    if message is not None:
                        yield message
            except Exception as error:  # damage raises errors of many kinds
                where = "before its first message" if last is None else f"after {last} ns"
                self._note(f"{name} breaks off {where} ({one_line(error)})")

    def _decoded(self, stored: Stored, stamp: int, data: bytes) -> BagMessage | None:
        """Decodes a message; returns None, and counts it, if its bytes do not fit its type."""
        try:
            raw = decompressed(data, "zstd") if data.startswith(_ZSTD) else data
            message = self._types.deserialize_cdr(raw, stored.type)
        except Exception:  # damage raises errors of many kinds
            self.unreadable[f"{stored.topic}: message cannot be decoded"] += 1
            return None
        return BagMessage(stored.topic, stored.type, stamp, message, raw)


def _parsed(stored: Stored) -> dict[str, Any]:
    """Parses the types in a connection's definition."""
    text = stored.definition.data
    if stored.definition.format == MessageDefinitionFormat.MSG:
        return get_types_from_msg(text, stored.type)
    parts = text.split(_IDL_RULE) if text.startswith(f"{_IDL_RULE}IDL: ") else [f"\n{text}"]
    types: dict[str, Any] = {}
    for part in parts:
        types.update(get_types_from_idl(part.partition("\n")[2]) if part.strip() else {})
    return types

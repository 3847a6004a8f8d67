"""Reading rosbag2 recordings without ROS, through the library rosbags.

Messages are rosbags' own objects: fields have the names that ROS gives them, but arrays of numbers
are numpy arrays (`Image.data`, `JointState.position`), and there are no methods.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from zstandard import ZstdDecompressor

from heisd_ros.data.bag_files import (
    FOREVER,
    Storage,
    Stored,
    layout_of,
    open_storage,
    unpack,
)
from heisd_ros.errors import BagError

_IDL_RULE = "=" * 80 + "\n"
"""Before each file of a definition in IDL, as rosbag2 writes it."""


@dataclass(frozen=True)
class BagMessage:
    """One recorded message.

    Attributes:
        topic: Where it was published.
        type: For instance `sensor_msgs/msg/JointState`.
        stamp_ns: When the recorder received it, ns.
        message: Its fields by their ROS names; arrays of numbers are numpy's.
        data: The same in CDR, as it went over the wire.
    """

    topic: str
    type: str
    stamp_ns: int
    message: Any
    data: bytes


class Bag:
    """A rosbag2 recording: a folder, or one `.mcap` or `.db3` file.

    mcap and SQLite, split or not, compressed by chunk, message or file. Types that the file defines
    are read by its own definitions, others by those of ROS 2 Jazzy. Use it as a context manager.

    Attributes:
        path: Where it is.
        topics: Type by topic. A topic with two types has both, joined by " and ".
        custom: Texts that the recorder noted in metadata.yaml.
        damage: Where the recording breaks off and why; empty where it is whole. What lies before
            the break can be read. Grows while messages are read: look at it afterwards.

    Raises:
        BagError: On entering: it is not there, is no bag, or nothing of it can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.topics: dict[str, str] = {}
        self.custom: dict[str, str] = {}
        self.damage = ""
        self._stack = ExitStack()
        self._storages: list[tuple[str, Storage]] = []
        self._unzip: ZstdDecompressor | None = None
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

        Args:
            wanted: Accepted types by topic.

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
        """Messages of some topics in order of their reception.

        Ends early, and says so in `damage`, where the recording is cut off or damaged.

        Args:
            topics: Which.
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
        self.custom, self.damage = dict(layout.custom or {}), layout.damage
        self._unzip = ZstdDecompressor() if layout.message_compressed else None
        for file in layout.files:
            plain, damage = file, ""
            try:
                if layout.file_compressed:
                    plain, damage = unpack(file, self._stack)
                storage, cut = open_storage(plain, self._stack)
            except (BagError, OSError) as error:
                if not self._storages:
                    raise BagError(f"{file}: {error}") from error
                self._note(str(error))
                break
            self._storages.append((file.name, storage))
            self._note(damage or cut)
        kinds: dict[str, list[str]] = {}
        for stored in self._connections():
            known = kinds.setdefault(stored.topic, [])
            if stored.type not in known:
                known.append(stored.type)
        self.topics = {topic: " and ".join(known) for topic, known in sorted(kinds.items())}

    def _connections(self) -> Iterator[Stored]:
        for _, storage in self._storages:
            for stored in storage.connections:
                if isinstance(stored.topic, str) and isinstance(stored.type, str):  # not damaged
                    yield stored

    def _note(self, damage: str) -> None:
        if damage and damage not in self.damage:
            self.damage = f"{self.damage}; {damage}" if self.damage else damage

    def _type_of(self, topic: str) -> str:
        if topic in self.topics:
            return self.topics[topic]
        near = difflib.get_close_matches(topic, self.topics, 3, 0.3) or sorted(self.topics)[:8]
        raise BagError(f"{self.path} has no topic {topic}; there are, among others, {near}")

    def _define(self, kind: str) -> None:
        """Makes a type known, by the bag's own definition or else by ROS's."""
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
                f"{self.path}: messages of type {kind} cannot be read ({error}); record with a "
                "recorder that writes message definitions, as mcap's does"
            ) from error

    def _read(self, topics: frozenset[str], start: int, stop: int) -> Iterator[BagMessage]:
        for number, (name, storage) in enumerate(self._storages):
            last: int | None = None
            try:
                for stored, stamp, data in storage.messages(topics, start, stop):
                    raw = self._unzip.decompress(data) if self._unzip else data
                    message = self._types.deserialize_cdr(raw, stored.type)
                    last = stamp
                    yield BagMessage(stored.topic, stored.type, stamp, message, raw)
            except Exception as error:  # damage raises errors of many kinds
                where = "before its first message" if last is None else f"after {last} ns"
                left = len(self._storages) - number - 1
                more = f"; {left} later files are not read" if left else ""
                self._note(f"{name} breaks off {where} ({' '.join(str(error).split())}){more}")
                return


def _parsed(stored: Stored) -> dict[str, Any]:
    """The types that a connection's definition defines."""
    text = stored.definition.data
    if stored.definition.format == MessageDefinitionFormat.MSG:
        return get_types_from_msg(text, stored.type)
    parts = text.split(_IDL_RULE) if text.startswith(f"{_IDL_RULE}IDL: ") else [f"\n{text}"]
    types: dict[str, Any] = {}
    for part in parts:
        types.update(get_types_from_idl(part.partition("\n")[2]) if part.strip() else {})
    return types

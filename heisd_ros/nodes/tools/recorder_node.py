"""Records topics to an mcap bag, together with the instruction and the settings."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from std_msgs.msg import String

from heisd_ros.data.bag_source import note_topic
from heisd_ros.nodes.process import POLL_SEC, StoppableNode
from heisd_ros.nodes.tools.definitions import MessageTypes

DISCOVERY_SEC = 0.2
LOG_SEC = 5.0
DEPTH = 1000
"""Number of messages that may wait for the disk."""


class RecorderNode(StoppableNode):
    """Writes the messages of some topics to a rosbag2 folder.

    A topic is subscribed to once it has a publisher, with the reliability and durability that its
    publishers offer. Messages are written unchanged, with their definitions. `stop` writes the
    index; a killed recorder leaves a folder without it, which our reader reads up to the last
    chunk of about a megabyte.

    Args:
        folder: The bag; must not exist.
        topics: Topics to record.
        notes: Texts to store in the bag, by name: in metadata.yaml, and as a first message each.
        compressed: Whether to compress chunks with zstd.
        **kwargs: Passed on to rclpy's Node.

    Attributes:
        counts: Messages written, by topic.
        failure: Why recording has failed; empty if it has not.

    Raises:
        ValueError: The folder exists or cannot be made, or there is no topic.
    """

    def __init__(
        self,
        folder: Path,
        topics: Sequence[str],
        notes: Mapping[str, str],
        compressed: bool = False,
        **kwargs: Any,
    ) -> None:
        if not topics:
            raise ValueError("no topic to record; name some with --topic, or a file with --params")
        super().__init__("heisd_recorder", **kwargs)
        self.counts: Counter[str] = Counter()
        self.failure = ""
        self._waiting = {self.resolve_topic_name(topic) for topic in topics}
        self._types = MessageTypes()
        self._last = 0
        try:
            self._writer: Writer | None = Writer(
                folder, version=9, storage_plugin=StoragePlugin.MCAP
            )
            if compressed:
                self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            for name, text in notes.items():
                self._writer.set_custom_data(name, text)
            self._writer.open()
        except (OSError, WriterError) as error:
            self.destroy_node()
            raise ValueError(f"{folder}: {error}; accepted: a new folder") from error
        for name, text in notes.items():
            connection = self._connection(note_topic(name), "std_msgs/msg/String")
            self._write(connection, bytes(serialize_message(String(data=text))))
        self.create_timer(DISCOVERY_SEC, self._discover)
        self._discover()

    def stop(self) -> None:
        """Writes what is left and the index; nothing is recorded afterwards."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except OSError as error:
            self.failure = self.failure or f"the index could not be written: {error}"
            self.get_logger().error(self.failure)

    def run(
        self, executor: SingleThreadedExecutor, stopping: threading.Event, seconds: float = 0.0
    ) -> int:
        """Records until the event is set, a time is over (0: none), or the disk is full.

        Returns:
            Exit code: 1 if recording failed.
        """
        began = told = time.monotonic()
        while not (stopping.is_set() or self.failure):
            executor.spin_once(timeout_sec=POLL_SEC)
            now = time.monotonic()
            if seconds and now - began >= seconds:
                break
            if now - told >= LOG_SEC:
                told = now
                self.get_logger().info(self.summary())
        self.stop()
        return 1 if self.failure else 0

    def summary(self) -> str:
        """Describes what was written, and which topics have no publisher."""
        written = ", ".join(f"{topic} {count}" for topic, count in sorted(self.counts.items()))
        missing = f"; no publisher of {', '.join(sorted(self._waiting))}" if self._waiting else ""
        return f"messages: {written or 'none'}{missing}"

    def _discover(self) -> None:
        for topic, types in self.get_topic_names_and_types():
            if topic in self._waiting and self.count_publishers(topic):
                self._waiting.discard(topic)
                try:
                    self._subscribe(topic, types[0])
                except ValueError as error:
                    self.get_logger().error(f"{topic} is not recorded: {error}")

    def _subscribe(self, topic: str, kind: str) -> None:
        found = self._types.message_class(kind)
        connection = self._connection(topic, kind)
        self.create_subscription(
            found, topic, partial(self._take, topic, connection), self._profile(topic), raw=True
        )
        self.get_logger().info(f"recording {topic} ({kind})")

    def _profile(self, topic: str) -> QoSProfile:
        """Returns a profile that all publishers of a topic match."""
        offered = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        reliable = all(p.reliability == ReliabilityPolicy.RELIABLE for p in offered)
        latched = all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in offered)
        return QoSProfile(
            depth=DEPTH,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=(
                DurabilityPolicy.TRANSIENT_LOCAL
                if latched and offered
                else DurabilityPolicy.VOLATILE
            ),
        )

    def _connection(self, topic: str, kind: str) -> Any:
        assert self._writer is not None, "not stopped"
        self._types.message_class(kind)
        return self._writer.add_connection(topic, kind, typestore=self._types.store)

    def _take(self, topic: str, connection: Any, data: bytes) -> None:
        if self._write(connection, data):
            self.counts[topic] += 1

    def _write(self, connection: Any, data: bytes) -> bool:
        if self._writer is None or self.failure:
            return False
        # The node's clock may be set back, and readers take the order of times for that of events.
        self._last = max(self._last, self.get_clock().now().nanoseconds)
        try:
            self._writer.write(connection, self._last, data)
        except OSError as error:
            self.failure = f"recording ends: {error}; what was written before is kept"
            self.get_logger().error(self.failure)
            return False
        return True

"""Records topics to an mcap bag, together with the instruction and the settings."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rclpy.task import Future
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from std_msgs.msg import String

from heisd_ros.data.recording_notes import MODE_NOTE, MODEL_NOTE, note_topic
from heisd_ros.models import shipped_model
from heisd_ros.nodes.process import POLL_SEC, StoppableNode
from heisd_ros.nodes.tools.definitions import MessageTypes

DISCOVERY_SEC = 0.2
LOG_SEC = 5.0
ASK_SEC = 1.0
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
        model_of: A VLA node, whose model and mode are noted once it answers; empty: none.
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
        model_of: str = "",
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
            self._writer.open()
        except (OSError, WriterError) as error:
            self.destroy_node()
            raise ValueError(f"{folder}: {error}; accepted: a new folder") from error
        for name, text in notes.items():
            self._note(name, text)
        self._model_client = (
            self.create_client(GetParameters, f"{model_of}/get_parameters") if model_of else None
        )
        self._question: Future | None = None
        self._ask_after = 0.0
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

    def _note(self, name: str, text: str) -> None:
        """Stores a text in metadata.yaml, and as a message for bags that are without it."""
        if self._writer is not None:
            self._writer.set_custom_data(name, text)
            connection = self._connection(note_topic(name), "std_msgs/msg/String")
            self._write(connection, bytes(serialize_message(String(data=text))))

    def _ask_model(self) -> None:
        """Asks the node for its model: again until it answers, for a first answer may be lost."""
        client, now = self._model_client, time.monotonic()
        if client is None or not client.service_is_ready() or now < self._ask_after:
            return
        self._ask_after = now + ASK_SEC
        if self._question is not None:
            client.remove_pending_request(self._question)
        request = GetParameters.Request(names=["model.path", "decoding.mode"])
        self._question = client.call_async(request)
        self._question.add_done_callback(self._note_model)

    def _note_model(self, answer: Future) -> None:
        """Notes what the node answered; one that answers otherwise has no model to note."""
        self._ask_after = math.inf
        values = answer.result().values if answer.exception() is None else []
        if len(values) == 2:
            self._note(MODEL_NOTE, model_name(values[0].string_value))
            self._note(MODE_NOTE, values[1].string_value)

    def _discover(self) -> None:
        self._ask_model()
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


def model_name(path: str) -> str:
    """Returns the name of the model that the parameter `model.path` leads to.

    That is the name of its folder, or the address of its server without what logs in there.
    """
    if "://" in path:
        address = urlsplit(path)
        return f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
    return Path(path).name if path else shipped_model().name

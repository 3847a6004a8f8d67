"""Publishes a recording over DDS, with `/clock`: `heisd play`, where `ros2 bag` is not at hand.

Messages go out as they were recorded, byte by byte. Who reads a topic needs its message package
installed; a topic whose package is not is left out.
"""

from __future__ import annotations

import importlib
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock

from heisd_ros.data.bag import Bag, BagMessage
from heisd_ros.errors import BagError
from heisd_ros.nodes import qos
from heisd_ros.nodes.process import StoppableNode
from heisd_ros.nodes.telemetry import time_message

CLOCK = "/clock"
DEPTH = 100
"""Messages kept for a reader that is behind."""
ACKNOWLEDGE_SEC = 2.0
"""How long the last messages are waited for."""
_LATCHED = ("std_msgs/msg/String", "tf2_msgs/msg/TFMessage")
_MOST_IN_A_TICK = 64


@dataclass(frozen=True)
class PlaySettings:
    """What is played and how.

    Attributes:
        bag: A rosbag2 folder, or a file of it.
        rate: Seconds of the recording in a second.
        loop: Whether it begins again at its end.
        topics: What is played; empty: everything.
        clock_hz: How often `/clock` is published, in seconds that pass; 0: never.
        delay_sec: Wait before the first message, in which readers may find the publishers.

    Raises:
        ValueError: A number is out of range.
    """

    bag: Path
    rate: float = 1.0
    loop: bool = False
    topics: tuple[str, ...] = ()
    clock_hz: float = 40.0
    delay_sec: float = 0.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name, value, least in (
            ("rate", self.rate, 0.001),
            ("clock", self.clock_hz, 0.0),
            ("delay", self.delay_sec, 0.0),
        ):
            if not (math.isfinite(value) and least <= value <= 1000.0):
                raise ValueError(f"{name} is {value:g}; accepted: {least:g} to 1000")


class Player(StoppableNode):
    """A node with a publisher for each topic of a recording.

    Args:
        settings: What is played.
        **kwargs: For rclpy's Node; remappings come with the command line.

    Attributes:
        finished: Whether the end was reached.
        damage: Where the recording breaks off; empty where it is whole.

    Raises:
        ValueError: The bag cannot be opened, lacks a topic, or nothing of it can be published.
    """

    def __init__(self, settings: PlaySettings, **kwargs: Any) -> None:
        super().__init__("player", **kwargs)
        self.finished, self.damage = False, ""
        self._settings = settings
        self._stream: Iterator[BagMessage] = iter(())
        self._next: BagMessage | None = None
        self._first, self._epoch = 0, 0.0  # stamp (ns) of the first message, and when it is due
        self._bag = Bag(settings.bag)
        try:
            self._bag.__enter__()
            self._publisher_of = self._open_publishers(settings.topics or tuple(self._bag.topics))
            self._begin(time.monotonic() + settings.delay_sec)
        except BagError as error:
            self.destroy_node()
            raise ValueError(str(error)) from error
        self._time = self.create_publisher(Clock, CLOCK, qos.reliable())
        self._clock_due = 0.0

    @property
    def heard(self) -> bool:
        """Whether every topic that is played has a reader."""
        return all(publisher.get_subscription_count() for publisher in self._publisher_of.values())

    def rewind(self) -> None:
        """Plays from the beginning again, from now on."""
        self._begin(time.monotonic())

    def tick(self) -> None:
        """Publishes what is due; to be called often."""
        now = time.monotonic()
        for _ in range(_MOST_IN_A_TICK):
            if self._next is None or now < self._due(self._next.stamp_ns):
                break
            message = self._next
            self._tell_time(message.stamp_ns, now)
            self._publisher_of[message.topic].publish(bytes(message.data))
            self._next = next(self._stream, None)
        if self._next is not None:
            passed = max(now - self._epoch, 0.0) * self._settings.rate
            self._tell_time(self._first + int(passed * 1e9), now)
        elif not self.finished:
            self._end(now)

    def wait_sec(self) -> float:
        """Seconds until something is due, at most a clock period."""
        if self._next is None:
            return 0.0
        due = self._due(self._next.stamp_ns)
        if self._settings.clock_hz:
            due = min(due, self._clock_due)
        return max(due - time.monotonic(), 0.0)

    def stop(self) -> None:
        """Waits for what was published last, and closes the bag."""
        self.damage = self._bag.damage
        for publisher in self._publisher_of.values():
            publisher.wait_for_all_acked(Duration(nanoseconds=int(ACKNOWLEDGE_SEC * 1e9)))
        self._bag.__exit__(None, None, None)

    def _begin(self, epoch: float) -> None:
        self._stream = self._bag.messages(list(self._publisher_of))
        self._next = next(self._stream, None)
        if self._next is None:
            raise BagError(
                f"{self._settings.bag} has no message on {', '.join(self._publisher_of)}"
            )
        self._first, self._epoch = self._next.stamp_ns, epoch

    def _end(self, now: float) -> None:
        self.damage = self._bag.damage
        if self._settings.loop:
            self._begin(now)
        else:
            self.finished = True

    def _due(self, stamp_ns: int) -> float:
        return self._epoch + (stamp_ns - self._first) / 1e9 / self._settings.rate

    def _tell_time(self, stamp_ns: int, now: float) -> None:
        """Publishes the clock where a period of it has passed."""
        if self._settings.clock_hz and now >= self._clock_due:
            self._clock_due = now + 1.0 / self._settings.clock_hz
            self._time.publish(Clock(clock=time_message(stamp_ns)))

    def _open_publishers(self, topics: tuple[str, ...]) -> dict[str, Publisher]:
        self._bag.require({topic: self._bag.topics.values() for topic in topics})
        publishers, missing = {}, []
        for topic in topics:
            kind = self._bag.topics[topic]
            if topic == CLOCK and self._settings.clock_hz:
                continue  # it would contradict ours
            try:
                cls = message_class(kind)
                self._bag.messages([topic])
            except (BagError, ImportError):
                missing.append(f"{topic} ({kind})")
                continue
            publishers[topic] = self.create_publisher(
                cls, topic, _profile(kind), qos_overriding_options=qos.overrides()
            )
        if not publishers:
            raise BagError(
                f"{self._settings.bag}: nothing to play; no definition or package here for "
                f"{', '.join(missing)}"
            )
        if missing:
            self.get_logger().warning(
                f"left out, no definition or package here: {', '.join(missing)}"
            )
        return publishers


def message_class(kind: str) -> Any:
    """The class of a message type such as `sensor_msgs/msg/Image`.

    Raises:
        ImportError: It is not installed.
    """
    package, _, name = kind.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (AttributeError, ValueError) as error:
        raise ImportError(f"no message type {kind!r}") from error


def run(player: Player, executor: SingleThreadedExecutor, stopping: threading.Event) -> int:
    """Plays to the end, or until told to stop.

    Returns:
        Exit code: 2 where the recording breaks off before its end.
    """
    player.get_logger().info("playing")
    while not (stopping.is_set() or player.finished):
        player.tick()
        executor.spin_once(timeout_sec=0.0)
        stopping.wait(min(player.wait_sec(), 0.05))
    if player.damage:
        player.get_logger().error(player.damage)
    return 2 if player.damage else 0


def _profile(kind: str) -> QoSProfile:
    """What is said once has to reach those who come later."""
    return qos.latched() if kind in _LATCHED else qos.reliable(DEPTH)

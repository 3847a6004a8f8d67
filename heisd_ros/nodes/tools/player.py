"""Publishes a recording with `/clock`, for `heisd play` on machines without `ros2 bag`.

Messages are published byte for byte as they were recorded. A topic whose message package is not
installed is left out.
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
"""Messages kept for a slow reader."""
ACKNOWLEDGE_SEC = 2.0
"""How long to wait for the last messages, s."""
_LATCHED = ("std_msgs/msg/String", "tf2_msgs/msg/TFMessage")
_MOST_IN_A_TICK = 64


@dataclass(frozen=True)
class PlaySettings:
    """Settings of a player.

    Attributes:
        bag: A rosbag2 folder, or a file of it.
        rate: Seconds of the recording per second.
        loop: Whether to start over at the end.
        topics: Topics to play; empty: all.
        clock_hz: Rate of `/clock` in real time, Hz; 0: it is not published.
        delay_sec: Wait before the first message, s, for readers to discover the publishers.

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
        """Checks that all numbers are in range."""
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
        settings: What to play.
        **kwargs: Passed on to rclpy's Node; remappings come from the command line.

    Attributes:
        finished: Whether the end was reached.
        damage: Where the recording breaks off; empty if it is complete.

    Raises:
        ValueError: The bag cannot be opened, lacks a topic, or has nothing to publish.
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
        """Restarts from the beginning."""
        self._begin(time.monotonic())

    def tick(self) -> None:
        """Publishes what is due; call it often."""
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
        """Returns the seconds until something is due, at most a clock period."""
        if self._next is None:
            return 0.0
        due = self._due(self._next.stamp_ns)
        if self._settings.clock_hz:
            due = min(due, self._clock_due)
        return max(due - time.monotonic(), 0.0)

    def stop(self) -> None:
        """Waits until the last messages were received, and closes the bag."""
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
        """Publishes the clock once its period has passed."""
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
            publishers[topic] = qos.publisher(self, cls, topic, _profile(kind))
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
    """Returns the class of a message type such as `sensor_msgs/msg/Image`.

    Raises:
        ImportError: It is not installed.
    """
    package, _, name = kind.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (AttributeError, ValueError) as error:
        raise ImportError(f"no message type {kind!r}") from error


def run(player: Player, executor: SingleThreadedExecutor, stopping: threading.Event) -> int:
    """Plays to the end, or until the event is set.

    Returns:
        Exit code: 2 if the recording is damaged and breaks off early.
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
    """Returns the profile of a topic; types that are sent once are latched."""
    return qos.latched() if kind in _LATCHED else qos.reliable(DEPTH)

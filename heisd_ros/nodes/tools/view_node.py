"""Shows a running system live: a node that only subscribes, in a process of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from heisd_ros.kinematics.urdf import MAX_CHARACTERS
from heisd_ros.msg import StepTelemetry
from heisd_ros.nodes import qos
from heisd_ros.nodes.guard import GuardedNode, spin_once
from heisd_ros.nodes.process import POLL_SEC, StoppableNode
from heisd_ros.view.feed import Feed
from heisd_ros.view.screen import Screen

LOOK_SEC = 1.0
"""How often the graph is asked for the node and its topics, s."""
SILENT_SEC = 3.0
"""Without telemetry for this long the view says so, s."""
FLUSH_EVERY_SEC, FLUSH_SEC = 0.5, 2.0
TELEMETRY_DEPTH, JOINTS_DEPTH = 50, 8
TELEMETRY = "heisd_ros/msg/StepTelemetry"
IMAGES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
JOINTS, TEXT = "sensor_msgs/msg/JointState", "std_msgs/msg/String"


class ViewNode(GuardedNode, StoppableNode):
    """Subscribes to what a VLA node subscribes to, and to its telemetry, best effort.

    The topics are those of the node in the graph, whatever they are remapped to, so none has to be
    named here. It publishes nothing and calls no service.

    Args:
        screen: Where everything is shown.
        feed: Decodes messages for it.
        node: Name of the VLA node, with its namespace; empty: the first that publishes telemetry.
        **kwargs: Passed on to rclpy's Node.

    Attributes:
        watched: Full name of the node; empty while it is not found.
        cameras: Topics of its cameras.
    """

    def __init__(self, screen: Screen, feed: Feed, node: str = "", **kwargs: Any) -> None:
        super().__init__(
            "heisd_view", enable_rosout=False, start_parameter_services=False, **kwargs
        )
        self._screen, self._feed = screen, feed
        self._wanted = f"/{node.strip('/')}" if node else ""
        self.watched, self.cameras = "", tuple[str, ...]()
        self._topics: set[str] = set()
        self._heard = time.monotonic()
        self._silent = False
        self.create_timer(LOOK_SEC, self._look)
        # What the viewer's server has not taken waits in memory: no more than this much.
        self.create_timer(FLUSH_EVERY_SEC, lambda: screen.flush(FLUSH_SEC))

    def stop(self) -> None:
        """Does nothing: the node drives nothing."""

    def on_fault(self, where: str, error: Exception) -> None:
        """Notes an exception of a callback in the view."""
        self._feed.note_once(time.time_ns(), where, f"{where} failed: {error!r}")
        self.get_logger().error(f"{where} failed: {error!r}", throttle_duration_sec=5.0)

    def run(
        self,
        executor: SingleThreadedExecutor,
        stopping: threading.Event,
        problem: Callable[[], str] = lambda: "",
    ) -> int:
        """Shows what comes until the event is set or the viewer's server ends.

        Args:
            executor: That spins this node.
            stopping: Ends it.
            problem: Why the viewer's server has ended; empty while it runs.

        Returns:
            Exit code: 1 if the server ended.
        """
        while not stopping.is_set():
            spin_once(self, executor, POLL_SEC)
            if found := problem():
                self.get_logger().error(found)
                return 1
        return 0

    def _look(self) -> None:
        """Finds the node and subscribes to topics of it that are new."""
        if not self.watched:
            self._find()
        if self.watched:
            self._subscribe_all()
        if time.monotonic() - self._heard > SILENT_SEC and not self._silent:
            self._silent = True
            who = self.watched or self._wanted or "any VLA node"
            self._screen.note(time.time_ns(), f"no telemetry of {who}")

    def _find(self) -> None:
        publishing = {
            f"{info.node_namespace.rstrip('/')}/{info.node_name}": topic
            for topic, types in self.get_topic_names_and_types()
            if TELEMETRY in types
            for info in self.get_publishers_info_by_topic(topic)
        }
        name = self._wanted or min(publishing, default="")
        if name not in publishing:
            return
        self.watched = name
        others = sorted(set(publishing) - {name})
        also = f"; not shown: {', '.join(others)}, choose with --node" if others else ""
        self._screen.note(time.time_ns(), f"watching {name}{also}", "INFO")
        self._listen(StepTelemetry, publishing[name], self._on_telemetry, TELEMETRY_DEPTH)

    def _subscribe_all(self) -> None:
        """Subscribes to cameras, joint states and robot description of the watched node."""
        namespace, _, name = self.watched.rpartition("/")
        try:
            found = self.get_subscriber_names_and_types_by_node(name, namespace or "/")
        except RuntimeError:  # it is not there at the moment; rclpy's error has no class of its own
            return
        for topic, types in found:
            if topic in self._topics:
                continue
            for kind in types:
                if kind in IMAGES:
                    self._listen(IMAGES[kind], topic, partial(self._on_image, topic, IMAGES[kind]))
                    self.cameras += (topic,)
                    self._screen.arrange(self.cameras)
                elif kind == JOINTS:
                    self._listen(JointState, topic, self._on_joints, JOINTS_DEPTH)
                elif kind == TEXT and self._feed.arm.described and _describes(topic):
                    self._listen_to_description(topic)

    def _listen(self, kind: type, topic: str, callback: Any, depth: int = 1) -> None:
        self._topics.add(topic)
        raw = kind in IMAGES.values()
        self.create_subscription(kind, topic, callback, qos.sensor_data(depth), raw=raw)

    def _listen_to_description(self, topic: str) -> None:
        self._topics.add(topic)
        self.create_bounded_subscription(
            String,
            topic,
            lambda message: self._feed.describe(time.time_ns(), message.data),
            most_bytes=2 * MAX_CHARACTERS,
            refuse=lambda problem: self._feed.note_once(time.time_ns(), topic, problem),
            qos_profile=qos.latched(),
        )

    def _on_telemetry(self, message: StepTelemetry) -> None:
        self._heard, self._silent = time.monotonic(), False
        self._feed.telemetry(time.time_ns(), message)

    def _on_image(self, topic: str, kind: type, data: bytes) -> None:
        # As bytes, since most pictures are skipped, and deserialising is what takes time.
        now = time.time_ns()
        if self._feed.wants_picture(now, topic):
            self._feed.picture(now, topic, deserialize_message(data, kind))

    def _on_joints(self, message: JointState) -> None:
        self._feed.joints(time.time_ns(), message)


def _describes(topic: str) -> bool:
    return topic.rpartition("/")[2] == "robot_description"

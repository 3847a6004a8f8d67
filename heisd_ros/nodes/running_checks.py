"""Checks of `heisd doctor` that need ROS: the installation, and a running system."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from heisd_ros.control.inputs import NANOSECONDS, stamp_ns
from heisd_ros.data import images
from heisd_ros.errors import HeisdError, ImageError
from heisd_ros.msg import ArmStatus
from heisd_ros.nodes import optional, qos
from heisd_ros.robot.cell_parameters import CellParameters, guard_settings
from heisd_ros.robot.guard_parameters import GuardParameters
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.robot_arm import make_reader

Seen = tuple[str, str, str]
"""Level ("good", "warning" or "bad"), name and text, as in a Finding of the command."""
LEAST_HZ, MOST_LATE_SEC = 5.0, 0.5
GUARD = "heisd_guard"


def installation() -> Iterator[Seen]:
    """Checks ROS, its middleware, and the optional packages."""
    from heisd_ros.msg import StepTelemetry

    distro = os.environ.get("ROS_DISTRO", "from wheels")
    yield "good", "ROS", f"{distro}, rclpy at {os.path.dirname(rclpy.__file__)}"
    yield "good", "RMW", get_rmw_implementation_identifier()
    try:
        StepTelemetry.__import_type_support__()
        yield "good", "messages", "of heisd_ros can be used"
    except Exception as error:
        yield "bad", "messages", f"of heisd_ros cannot be used: {error}; build them again"


def wanted(parameters: VlaNodeParameters) -> Iterator[Seen]:
    """Checks the packages that a robot's file needs beyond a dry run."""
    try:
        optional.check(parameters)
    except HeisdError as error:
        yield "warning", "packages", f"{error}; a dry run does without"


class Listener(Node):
    """Listens to the topics of a robot's file, and reports what does not fit."""

    def __init__(self, cell: CellParameters, **kwargs: Any) -> None:
        super().__init__("heisd_doctor", **kwargs)
        self._cell, topics = cell, cell.topics
        self._heard: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        compressed = cell.input.compressed
        kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
        self._inputs: dict[str, QoSProfile] = {}
        for topic in (topics.image + suffix, topics.image_wrist + suffix):
            self._listen(kind, topic, qos.sensor_data())
        self._listen(JointState, topics.joint_states, qos.sensor_data())
        self._images = (topics.image + suffix, topics.image_wrist + suffix)
        self._check = images.check_compressed if compressed else images.check_raw
        if cell.robot.source == "topic":
            self._listen(String, "robot_description", qos.latched())
        self._guarded: ArmStatus | None = None  # what heisd_guard said last
        self.create_subscription(ArmStatus, f"{GUARD}/status", self._on_guard, qos.reliable())

    def report(self, seconds: float) -> Iterator[Seen]:
        """Yields the findings.

        Args:
            seconds: How long the listener has run.
        """
        for topic, profile in self._inputs.items():
            heard = self._heard[topic]
            name = self.resolve_topic_name(topic)
            if heard:
                yield self._input(name, topic, heard, seconds)
            else:
                yield "bad", name, self._silence(name, profile)
        yield from self._joints()
        yield from self._guard()
        yield from self._command()

    def _listen(self, kind: type, topic: str, profile: QoSProfile) -> None:
        self._inputs[topic] = profile
        self.create_subscription(kind, topic, partial(self._on_message, topic), profile)

    def _on_message(self, topic: str, message: Any) -> None:
        heard = self._heard[topic]
        late = time.time_ns() - stamp_ns(message) if hasattr(message, "header") else 0
        # Pictures are not kept, only their faults.
        heard.append((late, self._fault(message) if topic in self._images else message))

    def _fault(self, picture: Any) -> str:
        """Returns why a picture would hold the arm; empty if it would not."""
        try:
            self._check(picture)
        except ImageError as error:
            return str(error)
        return ""

    def _silence(self, name: str, profile: QoSProfile) -> str:
        publishers = self.get_publishers_info_by_topic(name)
        if not publishers:
            return "no publisher: check topic and namespace; is the driver up?"
        for one in publishers:
            why = clash(one.qos_profile, profile)
            if why:
                return f"{one.node_name} publishes it with another QoS: {why}"
        return f"{publishers[0].node_name} publishes {publishers[0].topic_type}, but nothing came"

    def _input(self, name: str, topic: str, heard: list[tuple[int, Any]], seconds: float) -> Seen:
        if self._inputs[topic] == qos.latched():
            return "good", name, "received"
        rate, late = len(heard) / seconds, heard[-1][0] / NANOSECONDS
        limit = self._cell.input.image_timeout_sec
        if topic not in self._images:
            limit = self._cell.input.joint_state_timeout_sec
        text = f"{rate:.1f} Hz, stamps {late:.3f} s old"
        if rate < max(1.0 / limit, LEAST_HZ):
            return "bad", name, f"{text}; its timeout of {limit:g} s would hold the arm"
        if topic in self._images and heard[-1][1]:
            return "bad", name, f"{text}; {heard[-1][1]}"
        if abs(late) > MOST_LATE_SEC:
            return "warning", name, f"{text}: clocks of driver and this machine differ?"
        return "good", name, text

    def _joints(self) -> Iterator[Seen]:
        settings = self._cell
        wanted = [*settings.robot.joint_names, *filter(None, settings.robot.gripper_joints)]
        states = [message for _, message in self._heard[self._cell.topics.joint_states]]
        seen = {name for message in states for name in message.name}
        missing = [name for name in wanted if name not in seen]
        if states and missing:
            yield "bad", "joints", f"{missing} are not among {sorted(seen)}"
        elif states:
            yield "good", "joints", "all are named"
        for _, message in self._heard["robot_description"][-1:]:
            try:
                make_reader(settings, message.data)
                yield "good", "description", "has the frames and joints of the file"
            except HeisdError as error:
                yield "bad", "description", str(error)

    def _on_guard(self, message: ArmStatus) -> None:
        self._guarded = message

    def _guard(self) -> Iterator[Seen]:
        """Checks whether heisd_guard runs, and what it does."""
        said = self._guarded
        if said is None:
            level = "good" if self._cell.guard == GuardParameters() else "warning"
            yield level, GUARD, "does not run: nothing checks commands between node and controller"
            return
        try:
            gaps = guard_settings(self._cell).gaps()
        except ValueError as error:
            yield "bad", GUARD, f"runs with another file, as it would refuse this one: {error}"
            return
        if said.code in (ArmStatus.HELD, ArmStatus.ESTOP):
            yield "bad", GUARD, f"tripped: {said.message}; ~/reset of {GUARD} ends it"
        elif said.code == ArmStatus.INACTIVE:
            yield "good", GUARD, f"waits: {said.message}"
        else:
            yield "good", GUARD, "passes commands"
        yield from (("warning", GUARD, gap) for gap in gaps)

    def _command(self) -> Iterator[Seen]:
        if self._cell.command.interface == "delta":
            return
        topic = getattr(self._cell.topics, self._cell.command.interface)
        name = self.resolve_topic_name(topic)
        rivals = [one.node_name for one in self.get_publishers_info_by_topic(name)]
        readers = self.get_subscriptions_info_by_topic(name)
        if self._guarded is not None and GUARD in rivals:
            rivals.remove(GUARD)
        elif self._guarded is not None:
            yield "warning", name, f"{GUARD} runs and does not command it: a dry run, other topics?"
        if self._guarded is not None and "vla_node" in rivals:
            yield "bad", name, f"vla_node commands it past {GUARD}; see docs/safety.md"
        elif rivals:
            yield "bad", name, f"{rivals} command it too: the arm would be held (rival_commands)"
        for one in readers:
            why = clash(qos.reliable(), one.qos_profile)
            if why:
                yield "bad", name, f"{one.node_name} hears it with another QoS: {why}"
        if not readers:
            yield "warning", name, "no subscriber: is the controller up?"
        elif not rivals:
            yield "good", name, f"{readers[0].node_name} hears it"


def clash(offered: QoSProfile, wanted: QoSProfile) -> str:
    """Returns why a subscription does not match a publisher; empty if it does."""
    if (
        wanted.reliability == ReliabilityPolicy.RELIABLE
        and offered.reliability == ReliabilityPolicy.BEST_EFFORT
    ):
        return "best effort, but reliable is wanted"
    if (
        wanted.durability == DurabilityPolicy.TRANSIENT_LOCAL
        and offered.durability == DurabilityPolicy.VOLATILE
    ):
        return "volatile, but transient local is wanted"
    return ""


def running(cell: CellParameters, namespace: str, seconds: float) -> list[Seen]:
    """Listens to a running system, without sending commands.

    Args:
        cell: The robot, and its topics.
        namespace: Namespace of the VLA node.
        seconds: How long to listen.
    """
    rclpy.init(args=[])
    try:
        listener = Listener(cell, namespace=namespace)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            rclpy.spin_once(listener, timeout_sec=left)
        return list(listener.report(seconds))
    finally:
        rclpy.try_shutdown()

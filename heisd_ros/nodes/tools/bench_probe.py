"""A simulated camera and arm that measure the VLA node's latency, for `heisd bench node`."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from heisd_ros.control.inputs import NANOSECONDS, stamp_ns
from heisd_ros.errors import HeisdError
from heisd_ros.kinematics.robots import PANDA_JOINTS
from heisd_ros.msg import StepTelemetry
from heisd_ros.nodes import qos

REST = (0.0, -0.3, 0.0, -2.2, 0.0, 2.0, 0.8)
"""Joint positions around which the arm sways, rad, so that it does not count as frozen."""
SWAY_RAD, JOINT_RATE_HZ = 0.02, 100.0
DEPTH = 1000


@dataclass(frozen=True)
class Measurement:
    """Measured latencies of the node.

    Attributes:
        frames: Pictures published.
        latency_ms: (n,), stamp of the picture to that of the command that answers it, ms.
        arrival_ms: (n,), to the arrival of that command at this node, ms.
        split_ms: What makes up `arrival_ms`, part to (n,): `transport` (picture to a complete set,
            and command to its arrival), `wait` (for the inference thread), `conversion`,
            `preprocessing`, `publish` (result to command handed to DDS).
    """

    frames: int
    latency_ms: np.ndarray
    arrival_ms: np.ndarray
    split_ms: dict[str, np.ndarray]


class Probe(Node):
    """Publishes pictures and joint states and keeps every command and telemetry message."""

    def __init__(self, width: int, height: int, rate_hz: float, **kwargs: Any) -> None:
        super().__init__("probe", **kwargs)
        self.frames = 0
        self.commands: list[tuple[float, int, int]] = []
        self.steps: list[StepTelemetry] = []
        self.reason = "nothing heard"
        self._image = Image(height=height, width=width, encoding="rgb8", step=3 * width)
        self._image.data = array("B", bytes(3 * width * height))
        self._images = self.create_publisher(Image, "vla_node/input/image", qos.sensor_data())
        self._joints = self.create_publisher(
            JointState, "vla_node/input/joint_states", qos.sensor_data()
        )
        deep = qos.reliable(DEPTH)
        self.create_subscription(TwistStamped, "vla_node/output/twist", self._on_twist, deep)
        self.create_subscription(StepTelemetry, "vla_node/telemetry", self._on_telemetry, deep)
        self.create_timer(1.0 / rate_hz, self._publish_image)
        self.create_timer(1.0 / JOINT_RATE_HZ, self._publish_joints)

    def forget(self) -> None:
        """Drops what was measured so far."""
        self.frames = 0
        self.commands.clear()
        self.steps.clear()

    def _on_twist(self, message: TwistStamped) -> None:
        arrival = self.get_clock().now().nanoseconds
        self.commands.append((message.twist.linear.x, stamp_ns(message), arrival))

    def _on_telemetry(self, message: StepTelemetry) -> None:
        if message.hold:
            self.reason = message.reason
        else:
            self.steps.append(message)

    def _publish_image(self) -> None:
        self.frames += 1
        for place in range(4):  # no two pictures alike
            self._image.data[place] = self.frames >> (8 * place) & 255
        self._image.header.stamp = self.get_clock().now().to_msg()
        self._images.publish(self._image)

    def _publish_joints(self) -> None:
        phase = 2.0 * math.pi * 0.5 * time.monotonic()
        message = JointState(name=list(PANDA_JOINTS))
        message.position = [joint + SWAY_RAD * math.sin(phase) for joint in REST]
        message.velocity = [SWAY_RAD * math.pi * math.cos(phase)] * len(REST)
        message.header.stamp = self.get_clock().now().to_msg()
        self._joints.publish(message)


def measure(
    domain_id: int,
    seconds: float,
    on_start: Callable[[], None],
    on_end: Callable[[], None],
    *,
    width: int = 640,
    height: int = 480,
    rate_hz: float = 30.0,
    timeout_sec: float = 60.0,
) -> Measurement:
    """Measures a node that runs, or is starting, in a domain.

    Args:
        domain_id: ROS domain.
        seconds: How long to measure.
        on_start: Called when measuring begins, after the node's first second of steps.
        on_end: Called when it ends.
        width: Width of the pictures, pixels.
        height: Height of the pictures, pixels.
        rate_hz: Rate of the pictures.
        timeout_sec: How long to wait for the node's first steps.

    Raises:
        HeisdError: The node made no steps.
    """
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    try:
        probe = Probe(width, height, rate_hz, context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(probe)

        def spin_until(done: Callable[[], bool]) -> None:
            while not done():
                executor.spin_once(timeout_sec=0.05)

        deadline = time.monotonic() + timeout_sec
        spin_until(lambda: len(probe.steps) > rate_hz or time.monotonic() > deadline)
        if len(probe.steps) <= rate_hz:
            raise HeisdError(f"no steps within {timeout_sec:g} s; last reason: {probe.reason}")
        probe.forget()
        on_start()
        end = time.monotonic() + seconds
        spin_until(lambda: time.monotonic() > end)
        on_end()
        frames = probe.frames
        grace = time.monotonic() + 0.2  # for messages still in transit
        spin_until(lambda: time.monotonic() > grace)
        return evaluate(frames, probe.steps, probe.commands)
    finally:
        rclpy.shutdown(context=context)


def evaluate(
    frames: int, steps: list[StepTelemetry], commands: list[tuple[float, int, int]]
) -> Measurement:
    """Matches each step with the first command that has its numbers.

    Args:
        frames: Pictures published.
        steps: Telemetry of steps.
        commands: Speed along x of each command, m/s, its stamp and when it arrived, ns.
    """
    first: dict[float, tuple[int, int]] = {}
    for speed, stamp, arrival in commands:
        first.setdefault(speed, (stamp, arrival))
    rows = []
    for step in steps:
        answered = first.get(float(step.twist[0]))
        if answered is None:
            continue
        latency, arrived = ((at - stamp_ns(step)) * 1e3 / NANOSECONDS for at in answered)
        parts = step.latency
        inside = (parts.wait, parts.convert, parts.preprocess)
        after = parts.total - parts.wait - parts.convert - parts.inference
        rows.append((latency, arrived, arrived - parts.total, *inside, after))
    table = np.array(rows, np.float64).reshape(-1, 7)
    names = ("transport", "wait", "conversion", "preprocessing", "publish")
    split = {name: table[:, column] for column, name in enumerate(names, 2)}
    return Measurement(frames, table[:, 0], table[:, 1], split)

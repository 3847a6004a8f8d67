"""Monitor of the demo: watches the VLA node and the simulated arm, and starts episodes."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from heisd_ros.control.inputs import stamp_ns
from heisd_ros.data.images import raw_to_rgb
from heisd_ros.decoding.types import TIMING_KEYS, Source
from heisd_ros.msg import StepTelemetry
from heisd_ros.nodes import qos

VLA, ARM = "/vla_node", "/sim_arm_node"
RATES = ("image", "image_wrist", "joint_states", "command")
LATENCY_PARTS = (*TIMING_KEYS[:-1], "inference", "total")


class DemoError(RuntimeError):
    """The simulated arm did not answer, or refused an episode."""


@dataclass(frozen=True)
class Frame:
    """A camera picture with the position of the tip and the source of the step.

    Attributes:
        stamp: Header stamp, ns.
        pixels: (height, width, 3) uint8 RGB.
        tip: (3,), m, base frame.
        source: Source of the step on this picture; empty: the arm was held.
    """

    stamp: int
    pixels: np.ndarray
    tip: np.ndarray
    source: Source = Source.HOLD


@dataclass(frozen=True)
class Snapshot:
    """State of the demo at one time.

    Attributes:
        instruction: The instruction.
        step: Control steps of this episode.
        success: Whether the task's goal was reached in this episode.
        hold: Why the arm is held; empty if it is not.
        source: Source of the newest action.
        rates_hz: Messages per second, by `RATES`.
        latency_ms: Latency split of the newest step, by `LATENCY_PARTS`.
        metric: The fused metric; NaN until its window is full.
        metric_parts: Path length (m), radius (m), speed (m/s).
        twist: (6,), m/s and rad/s.
        gripper: Commanded opening, m.
        tip: (3,), m, base frame.
    """

    instruction: str
    step: int
    success: bool
    hold: str
    source: str
    rates_hz: dict[str, float]
    latency_ms: dict[str, float]
    metric: float
    metric_parts: tuple[float, float, float]
    twist: tuple[float, ...]
    gripper: float
    tip: tuple[float, ...]


class DemoMonitor:
    """Watches both nodes and starts episodes, inside `spin` and `begin_episode`.

    Args:
        domain_id: ROS domain of the two nodes.

    Attributes:
        arm_seen: Whether the simulated arm has published.
        vla_seen: Whether the VLA node has published.
        latencies: Latency split of each control step of this episode, until success, ms.
        holds: Reasons for which the arm was held in this episode.
        sources: Number of steps of this episode by source.
    """

    def __init__(self, domain_id: int) -> None:
        self._context = Context()
        rclpy.init(args=[], context=self._context, domain_id=domain_id)
        self._node = rclpy.create_node("heisd_demo", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._instruction = ""
        self.arm_seen = self.vla_seen = False
        self._arrivals = {name: deque[float](maxlen=40) for name in RATES}
        self._forget_episode()
        self._listen(Image, f"{ARM}/image", self._on_image)
        self._listen(Image, f"{ARM}/image_wrist", lambda _: self._count("image_wrist"))
        self._listen(JointState, f"{ARM}/joint_states", lambda _: self._count("joint_states"))
        self._listen(PoseStamped, f"{ARM}/ee_pose", self._on_pose)
        self._listen(Bool, f"{ARM}/success", self._on_success)
        self._listen(String, f"{ARM}/instruction", self._on_instruction, qos.latched())
        self._listen(TwistStamped, f"{VLA}/output/twist", lambda _: self._count("command"))
        self._listen(StepTelemetry, f"{VLA}/telemetry", self._on_telemetry)

    def spin(self, seconds: float) -> None:
        """Handles what arrives within this time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def begin_episode(
        self, suite: str, task_index: int, init_state: int, timeout_sec: float
    ) -> None:
        """Starts an episode on the simulated arm; takes seconds if the task changes.

        Raises:
            DemoError: The arm does not answer in time, or has no such episode.
        """
        values = {"suite": suite, "task_index": task_index, "init_state": init_state}
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        request = SetParameters.Request(
            parameters=[parameter.to_parameter_msg() for parameter in parameters]
        )
        deadline = time.monotonic() + timeout_sec
        response = self._call(SetParameters, f"{ARM}/set_parameters", request, deadline)
        refused = [result.reason for result in response.results if not result.successful]
        if refused:
            raise DemoError("; ".join(refused))
        answer = self._call(Trigger, f"{ARM}/reset_episode", Trigger.Request(), deadline)
        if not answer.success:
            raise DemoError(answer.message)
        # Messages in transit when the episode began belong to the previous one.
        self.spin(0.1)
        self._forget_episode()

    def snapshot(self) -> Snapshot:
        """Returns the current state."""
        step = self._last_step
        metric = step.metric if step else None
        return Snapshot(
            instruction=self._instruction,
            step=len(self.latencies),
            success=self._succeeded,
            hold=self._hold,
            source=step.source if step else "",
            rates_hz={name: self._rate(name) for name in RATES},
            latency_ms=dict(self.latencies[-1]) if self.latencies else {},
            metric=metric.value if metric else math.nan,
            metric_parts=(
                (metric.path_length, metric.curvature_radius, metric.speed)
                if metric
                else (math.nan,) * 3
            ),
            twist=tuple(float(value) for value in step.twist) if step else (0.0,) * 6,
            gripper=step.gripper if step else math.nan,
            tip=tuple(float(value) for value in self._tip),
        )

    def frames(self) -> list[Frame]:
        """Returns one frame per control step of this episode, until success."""
        return [
            Frame(stamp, pixels, self._tips[stamp], self._decided.get(stamp, Source.HOLD))
            for stamp, pixels in self._pictures.items()
            if stamp in self._tips
        ]

    def close(self) -> None:
        """Destroys the node and leaves the ROS domain."""
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _forget_episode(self) -> None:
        self._pictures: dict[int, np.ndarray] = {}  # by stamp, ns
        self._tips: dict[int, np.ndarray] = {}
        self._decided: dict[int, Source] = {}
        self.latencies: list[dict[str, float]] = []
        self.holds: list[str] = []
        self.sources: Counter[str] = Counter()
        self._last_step: StepTelemetry | None = None
        self._hold = ""
        self._succeeded = False
        self._tip = np.full(3, math.nan)

    def _listen(
        self, kind: type, topic: str, callback: Any, profile: QoSProfile | None = None
    ) -> None:
        self._node.create_subscription(kind, topic, callback, profile or 10)

    def _call(self, kind: Any, name: str, request: Any, deadline: float) -> Any:
        client: Any = self._node.create_client(kind, name)
        try:
            while not client.service_is_ready():
                self._wait(deadline, name)
            future = client.call_async(request)
            while not future.done():
                self._wait(deadline, name)
            return future.result()
        finally:
            self._node.destroy_client(client)

    def _wait(self, deadline: float, name: str) -> None:
        if time.monotonic() > deadline:
            raise DemoError(f"service {name} did not answer in time")
        self._executor.spin_once(timeout_sec=0.05)

    def _count(self, name: str) -> None:
        self._arrivals[name].append(time.monotonic())

    def _rate(self, name: str) -> float:
        now = time.monotonic()
        recent = [t for t in self._arrivals[name] if now - t < 2.0]
        return (len(recent) - 1) / (now - recent[0]) if len(recent) > 1 else 0.0

    def _on_image(self, message: Image) -> None:
        self._count("image")
        stamp = stamp_ns(message)
        # In lock-step an observation without a command is published again, 1 ns later.
        if not self._succeeded and stamp - max(self._pictures, default=0) > 1_000_000:
            self._pictures[stamp] = raw_to_rgb(message)

    def _on_pose(self, message: PoseStamped) -> None:
        self.arm_seen = True
        position = message.pose.position
        self._tip = np.array([position.x, position.y, position.z])
        self._tips[stamp_ns(message)] = self._tip

    def _on_success(self, message: Bool) -> None:
        self._succeeded = self._succeeded or message.data

    def _on_instruction(self, message: String) -> None:
        self._instruction = message.data

    def _on_telemetry(self, message: StepTelemetry) -> None:
        self.vla_seen = True
        if message.hold:
            if message.reason.split(":")[0] != self._hold.split(":")[0]:
                self.holds.append(message.reason)
            self._hold = message.reason
            return
        self._hold, self._last_step = "", message
        if not self._succeeded:
            latency = message.latency
            self.latencies.append({part: getattr(latency, part) for part in LATENCY_PARTS})
            self.sources[message.source] += 1
            self._decided[stamp_ns(message)] = Source(message.source)

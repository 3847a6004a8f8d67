"""Recordings of a made-up cell: what cameras and joints of a moving arm would have said."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from rosbags.typesys import get_types_from_msg
from support.bags import (
    OWN,
    SECOND,
    START,
    TYPES,
    header,
    image,
    joint_state,
    make,
    text,
    twist,
    write_bag,
)
from support.fake_scene import KinematicScene

from heisd_ros.kinematics.robots import PANDA_FINGER_JOINTS, PANDA_JOINTS

for _name in ("StepLatency", "InputAges", "StepTelemetry"):
    TYPES.register(get_types_from_msg((OWN / f"{_name}.msg").read_text(), f"heisd_ros/msg/{_name}"))

PERIOD = SECOND // 20
IMAGE, IMAGE_WRIST = "/vla_node/input/image", "/vla_node/input/image_wrist"
JOINTS, INSTRUCTION = "/vla_node/input/joint_states", "/vla_node/input/instruction"
TELEMETRY, TWIST = "/vla_node/telemetry", "/vla_node/output/twist"


def compressed(stamp, pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = np.frombuffer(buffer.getvalue(), np.uint8)
    kind = "sensor_msgs/msg/CompressedImage"
    return make(kind, header=header(stamp), format="png", data=data)


def telemetry(stamp, action, hold=False, commander="policy"):
    """A step's telemetry; what a replay does not look at is empty."""
    nan = float("nan")
    metric = TYPES.types["heisd_ros/msg/KinematicMetric"](
        "paper", False, nan, nan, nan, nan, nan, "none"
    )
    latency = TYPES.types["heisd_ros/msg/StepLatency"](*[0.0] * 13)
    ages = TYPES.types["heisd_ros/msg/InputAges"](np.zeros(2), 0.0, 0.0, 0.0)
    return TYPES.types["heisd_ros/msg/StepTelemetry"](
        header=header(stamp),
        step=0,
        instruction="",
        commander=commander,
        hold=hold,
        source="hold" if hold else "autoregressive",
        reason="",
        tokens=np.zeros(0 if hold else 7, np.uint32),
        reasoning="",
        passes=7,
        accepted=-1,
        similarity=nan,
        corrected=False,
        action=np.asarray([] if hold else action, np.float64),
        disagreement=nan,
        twist=np.zeros(6),
        joints=np.zeros(0),
        dry_run=False,
        gripper=nan,
        chunk=TYPES.types["heisd_ros/msg/StepChunk"](0, 0, 0, 0.0),
        metric=metric,
        latency=latency,
        ages=ages,
    )


@dataclass
class Recording:
    """Messages that become a bag.

    Attributes:
        entries: (ns since the start, topic, message), in any order.
    """

    entries: list = field(default_factory=list)

    def add(self, after, topic, message):
        self.entries.append((after, topic, message))

    def write(self, folder, storage="mcap"):
        """Writes a rosbag2 folder and returns it."""
        messages = [(topic, START + after, message) for after, topic, message in self.ordered()]
        return write_bag(folder, messages, storage)

    def ordered(self):
        """The entries in order of time."""
        return sorted(self.entries, key=lambda entry: entry[0])


def cell(
    steps=30,
    size=32,
    words="pick up the bowl",
    picture=image,
    topics=(IMAGE, IMAGE_WRIST),
    with_telemetry=False,
    with_twist=False,
):
    """A recording of an arm that speeds up, slows down and closes its gripper half way.

    Cameras and joint states come at 20 Hz with one stamp each, the pictures last.
    """
    recording = Recording()
    scene = KinematicScene(image_size=size)
    scene.reset(0)
    if words:
        recording.add(0, INSTRUCTION, text(words))
    rng = np.random.default_rng(0)
    for step in range(steps):
        after = step * PERIOD + 1_000_000
        stamp = START + after
        fingers = (0.04, 0.04) if step < steps // 2 else (0.01, 0.01)
        names = [*PANDA_JOINTS, *PANDA_FINGER_JOINTS]
        velocities = [*scene.joint_velocities(), 0.0, 0.0]
        joints = joint_state(stamp, names, [*scene.joint_positions(), *fingers], velocities)
        recording.add(after, JOINTS, joints)
        for number, (topic, pixels) in enumerate(zip(topics, scene.images().values(), strict=True)):
            noise = rng.integers(0, 40, pixels.shape, np.uint8)
            recording.add(after + 1000 * (number + 1), topic, picture(stamp, pixels // 2 + noise))
        action = np.array([0.5 * np.sin(step / 5.0), 0.2, 0.1, 0.0, 0.05, 0.0, -1.0])
        if with_telemetry:
            recording.add(after + 9_000_000, TELEMETRY, telemetry(stamp, action))
        if with_twist:
            recording.add(after + 9_000_000, TWIST, twist(stamp, action[:6]))
        scene.step(action)
    return recording

"""Small recordings, written by rosbags as a recorder on a robot would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
"""Receive time of a recording's first message, ns."""
OWN = Path(__file__).parents[2] / "msg"
TYPES = get_typestore(Stores.ROS2_JAZZY)
for _name in ("KinematicMetric", "StepChunk", "ActionDelta"):
    TYPES.register(get_types_from_msg((OWN / f"{_name}.msg").read_text(), f"heisd_ros/msg/{_name}"))
_feedback = "unique_identifier_msgs/UUID goal_id\nheisd_ros/msg/ExecuteFeedback feedback"
TYPES.register(get_types_from_msg("string instruction", "heisd_ros/msg/ExecuteFeedback"))
TYPES.register(get_types_from_msg(_feedback, "heisd_ros/action/Execute_FeedbackMessage"))


def make(kind, /, **fields):
    """A message of rosbags' own class, for instance `make("std_msgs/msg/String", data="x")`."""
    return TYPES.types[kind](**fields)


def header(stamp_ns, frame=""):
    sec, nanosec = divmod(int(stamp_ns), SECOND)
    stamp = make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def text(words):
    return make("std_msgs/msg/String", data=words)


def image(stamp_ns, pixels):
    """An rgb8 image of (H, W, 3) uint8."""
    height, width, _ = pixels.shape
    return make(
        "sensor_msgs/msg/Image",
        header=header(stamp_ns, "camera"),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def joint_state(stamp_ns, names, positions, velocities=()):
    return make(
        "sensor_msgs/msg/JointState",
        header=header(stamp_ns),
        name=list(names),
        position=np.asarray(positions, np.float64),
        velocity=np.asarray(velocities, np.float64),
        effort=np.zeros(0),
    )


def twist(stamp_ns, six, frame="panda_link0"):
    vectors = [
        make("geometry_msgs/msg/Vector3", x=v[0], y=v[1], z=v[2]) for v in (six[:3], six[3:])
    ]
    inner = make("geometry_msgs/msg/Twist", linear=vectors[0], angular=vectors[1])
    return make("geometry_msgs/msg/TwistStamped", header=header(stamp_ns, frame), twist=inner)


def pose(stamp_ns, position, quaternion, frame="panda_link0"):
    """A PoseStamped; quaternion x y z w."""
    inner = make(
        "geometry_msgs/msg/Pose",
        position=make("geometry_msgs/msg/Point", **dict(zip("xyz", position, strict=True))),
        orientation=make(
            "geometry_msgs/msg/Quaternion", **dict(zip("xyzw", quaternion, strict=True))
        ),
    )
    return make("geometry_msgs/msg/PoseStamped", header=header(stamp_ns, frame), pose=inner)


def write_bag(folder, messages, storage="mcap", compression=None, custom=None):
    """Writes a bag.

    Args:
        folder: Where; must not exist.
        messages: (topic, receive time in ns, message) in any order of topics.
        storage: mcap or sqlite3.
        compression: None, "message", "file" or "storage" (mcap's chunks).
        custom: Texts noted in metadata.yaml.
    """
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
    if compression:
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    for key, value in (custom or {}).items():
        writer.set_custom_data(key, value)
    connections = {}
    with writer:
        for topic, stamp, message in messages:
            kind = message.__msgtype__
            if (topic, kind) not in connections:
                connections[topic, kind] = writer.add_connection(topic, kind, typestore=TYPES)
            data = TYPES.serialize_cdr(message, kind)
            writer.write(connections[topic, kind], stamp, data)
    return folder

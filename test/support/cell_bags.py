"""Recordings of a Panda whose joints move smoothly, as a cell's topics would hold them."""

from __future__ import annotations

import numpy as np
from support.bags import SECOND, START, header, image, joint_state, make, pose, text, twist
from support.fake_scene import REST
from support.replay_bags import telemetry

from heisd_ros.data.recording_layout import RecordingLayout
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import (
    PANDA_BASE,
    PANDA_FINGER_JOINTS,
    PANDA_JOINTS,
    PANDA_TIP,
    panda_urdf,
)

ARM = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS, PANDA_BASE)
CAMERAS = ("/camera", "/wrist")
JOINTS, WORDS, MARKER, COMMAND, GRIPPER = "/joints", "/words", "/marker", "/command", "/gripper"
TELEMETRY, OUTCOME = "/telemetry", "/outcome"
RATE_HZ = 20.0
SPEED = np.array([0.3, 0.1, -0.2, 0.1, 0.2, -0.1, 0.2])
"""Of the joints, rad/s."""


def layout(**changes):
    """The layout of these recordings."""
    fields = {
        "images": CAMERAS,
        "joint_states": JOINTS,
        "tip_frame": PANDA_TIP,
        "base_frame": PANDA_BASE,
        "joint_names": tuple(PANDA_JOINTS),
        "gripper_joints": tuple(PANDA_FINGER_JOINTS),
        "urdf": panda_urdf(),
        "rate_hz": RATE_HZ,
        "instruction": "pick up the bowl",
    }
    return RecordingLayout(**(fields | changes))


def positions(seconds):
    """Joints at a time."""
    return REST + SPEED * seconds


def picture(seconds, camera, size=16):
    """Every picture is another: its shade is its time."""
    pixels = np.full((size, size, 3), 40 * camera, np.uint8)
    pixels[..., 0] = round(seconds * 30) % 250
    return pixels


def recording(
    seconds=2.0, camera_hz=30.0, joints_hz=100.0, joints_of=positions, extra=(), start=START,
    lag_ns=2_000_000, size=16,
):  # fmt: skip
    """(topic, receive time, message), in order of reception."""
    messages = list(extra)
    fingers = list(PANDA_FINGER_JOINTS)
    for number in range(round(seconds * joints_hz)):
        at = number / joints_hz
        stamp = start + round(at * SECOND)
        names = [*PANDA_JOINTS, *fingers]
        opening = 0.04 if at < seconds / 2 else 0.01
        message = joint_state(stamp, names, [*joints_of(at), opening, opening], [*SPEED, 0.0, 0.0])
        messages.append((JOINTS, stamp + lag_ns, message))
    for camera, topic in enumerate(CAMERAS):
        for number in range(round(seconds * camera_hz)):
            at = number / camera_hz
            stamp = start + round(at * SECOND) + camera * 1_000_000
            messages.append((topic, stamp + lag_ns, image(stamp, picture(at, camera, size))))
    return sorted(messages, key=lambda message: message[1])


def told(seconds, words, start=START):
    """An instruction at a time."""
    return WORDS, start + round(seconds * SECOND), text(words)


def pursued(seconds, goal, words, start=START):
    """Feedback of a goal."""
    message = make(
        "heisd_ros/action/Execute_FeedbackMessage",
        goal_id=make("unique_identifier_msgs/msg/UUID", uuid=np.full(16, goal, np.uint8)),
        feedback=make("heisd_ros/msg/ExecuteFeedback", instruction=words),
    )
    return WORDS, start + round(seconds * SECOND), message


def marked(seconds, on, start=START):
    """A Bool marker at a time."""
    return MARKER, start + round(seconds * SECOND), make("std_msgs/msg/Bool", data=on)


def held_by(seconds, commander, start=START):
    """Telemetry that says who had the arm at a time."""
    stamp = start + round(seconds * SECOND)
    return TELEMETRY, stamp, telemetry(stamp, np.zeros(7), commander=commander)


def ended(seconds, outcome, start=START):
    """A report of how an episode ended, at a time."""
    return OUTCOME, start + round(seconds * SECOND), text(outcome)


def opened(seconds, metres, start=START):
    """A commanded opening at a time."""
    return GRIPPER, start + round(seconds * SECOND), make("std_msgs/msg/Float64", data=metres)


def twisted(seconds, six, frame=PANDA_BASE, start=START):
    """A commanded twist at a time."""
    stamp = start + round(seconds * SECOND)
    return COMMAND, stamp + 1, twist(stamp, [float(v) for v in six], frame)


def posed(seconds, position, quaternion, frame=PANDA_BASE, start=START):
    """A commanded pose at a time."""
    stamp = start + round(seconds * SECOND)
    return COMMAND, stamp + 1, pose(stamp, position, quaternion, frame)


def delta(seconds, action, stop=False, start=START):
    """An action that a VLA node published."""
    stamp = start + round(seconds * SECOND)
    message = make(
        "heisd_ros/msg/ActionDelta",
        header=header(stamp, PANDA_BASE),
        stop=stop,
        action=np.asarray(action, np.float64),
        rotation="rotation_vector",
        duration=0.05,
    )
    return COMMAND, stamp + 1, message

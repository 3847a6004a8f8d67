"""A recording's messages by topic, checked one by one, with times on one clock."""

from __future__ import annotations

import io
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from heisd_ros.data.bag import Bag, BagMessage
from heisd_ros.data.images import check_compressed, check_raw
from heisd_ros.data.marks import is_persons
from heisd_ros.data.read_report import SECOND
from heisd_ros.data.recording_layout import ActionRule, RecordingLayout
from heisd_ros.errors import BagError, ImageError, JointStateError
from heisd_ros.kinematics.joint_states import ArmState, JointStateReader
from heisd_ros.kinematics.pose import Pose

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
JOINTS, TEXT = "sensor_msgs/msg/JointState", "std_msgs/msg/String"
TELEMETRY, DELTA = "heisd_ros/msg/StepTelemetry", "heisd_ros/msg/ActionDelta"
FEEDBACK = "heisd_ros/action/Execute_FeedbackMessage"
ACTION_TYPES = {
    "measured": (),
    "pose": ("geometry_msgs/msg/PoseStamped",),
    "twist": ("geometry_msgs/msg/TwistStamped",),
    "action": (TELEMETRY, DELTA),
}
CLOCK_JUMP = SECOND // 2
"""A stamp this much older than the newest of its topic: the clock was set back, ns."""


@dataclass
class Track:
    """Messages of one topic in order of their stamps.

    Attributes:
        stamps: ns, increasing.
        received: When the recorder received each, ns.
        values: Content of each.
    """

    stamps: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, stamp: int, received: int, value: Any) -> None:
        """Adds a message in its place; one without a stamp may come before the last one."""
        place = bisect_right(self.stamps, stamp)
        self.stamps.insert(place, stamp)
        self.received.insert(place, received)
        self.values.insert(place, value)

    def nearest(self, stamp: int) -> int | None:
        """Returns the index of the message nearest to a time; None if there is none."""
        if not self.stamps:
            return None
        after = bisect_left(self.stamps, stamp)
        near = [i for i in (after - 1, after) if 0 <= i < len(self.stamps)]
        return min(near, key=lambda i: abs(self.stamps[i] - stamp))

    def within(self, stamp: int, tolerance: int) -> int | None:
        """Returns the same, but None if it is further away than a tolerance."""
        found = self.nearest(stamp)
        return None if found is None or abs(self.stamps[found] - stamp) > tolerance else found

    def end(self) -> Track:
        """Returns a track of the last value alone, from before any stamp on; or an empty one."""
        return Track([0][: len(self.stamps)], self.received[-1:], self.values[-1:])

    def last(self, stamp: int) -> Any | None:
        """Returns the value of the newest message at or before a time."""
        after = bisect_left(self.stamps, stamp + 1)
        return self.values[after - 1] if after else None


class Tracks(dict[str, Track]):
    """Tracks by topic of a stretch of time in which no clock was set back.

    Attributes:
        said: What the robot was told, and an id that separates one command from the next.
        persons: Whether a person had the arm.
        outcomes: How episodes ended, in words.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said, self.persons, self.outcomes = Track(), Track(), Track()

    def track(self, topic: str) -> Track:
        """Returns the track of a topic, which is empty if there were no messages."""
        return self.setdefault(topic, Track())


class TrackReader:
    """Reads what a layout names from a bag, without keeping pictures.

    Args:
        bag: Open.
        layout: What to read.
        reader: The robot's joints.
        dropped: Counts what could not be used, by reason.

    Raises:
        BagError: A topic is missing or has another type than its use asks for.
    """

    def __init__(
        self, bag: Bag, layout: RecordingLayout, reader: JointStateReader, dropped: Counter[str]
    ) -> None:
        self._bag, self._layout, self._reader, self._dropped = bag, layout, reader, dropped
        rule = layout.action
        wanted: dict[str, tuple[str, ...]] = dict.fromkeys(layout.images, (IMAGE, COMPRESSED))
        wanted[layout.joint_states] = (JOINTS,)
        if rule.kind != "measured":
            wanted[rule.topic] = ACTION_TYPES[rule.kind]
        if rule.gripper_topic:
            wanted[rule.gripper_topic] = ("std_msgs/msg/Float64", "std_msgs/msg/Float32")
        self._tracked = {*wanted, layout.marker_topic}
        if layout.instruction_topic:  # telemetry may hold instruction and action
            kinds = (TEXT, TELEMETRY, FEEDBACK)
            both = wanted.get(layout.instruction_topic, kinds)
            wanted[layout.instruction_topic] = tuple(kind for kind in kinds if kind in both)
        bag.require(wanted)
        self._topics = list(wanted)
        self._take: dict[str, Callable[[BagMessage], Any]] = dict.fromkeys(
            layout.images, self._image
        )
        self._take[layout.joint_states] = self._joints
        self._events = {layout.marker_topic, rule.gripper_topic} - {""}
        if layout.marker_topic:
            bag.require({layout.marker_topic: [bag.topics.get(layout.marker_topic, "")]})
            self._topics.append(layout.marker_topic)
        marks = {layout.telemetry_topic: TELEMETRY, layout.outcome_topic: TEXT}
        self._marks = {topic for topic, kind in marks.items() if bag.topics.get(topic) == kind}
        self._topics += sorted(self._marks - set(self._topics))
        self._sizes: dict[str, tuple[int, int]] = {}

    def read(self) -> list[Tracks]:
        """Reads the whole bag; new tracks begin each time that a clock was set back."""
        parts, clock = [Tracks()], 0
        rule = self._layout.action
        for message in self._bag.messages(self._topics):
            if message.topic in self._marks:
                self._mark(parts, message, clock)
            if message.topic == self._layout.instruction_topic:
                parts[-1].said.add(clock, message.stamp_ns, _instruction(message))
            if message.topic not in self._tracked:
                continue
            event = message.topic in self._events
            # What has no stamp of its own belongs to the newest that was received before it.
            stamp = clock if event else header_stamp(message)
            track = parts[-1].track(message.topic)
            if track.stamps and stamp <= track.stamps[-1] and not event:
                if stamp > track.stamps[-1] - CLOCK_JUMP:
                    self._dropped[f"{message.topic}: stamp not newer than the one before"] += 1
                    continue
                self._dropped["clock set back"] += 1
                parts.append(self._after(parts[-1]))
                track = parts[-1].track(message.topic)
            try:
                value = self._value(message, rule)
            except (ImageError, JointStateError) as error:
                self._dropped[f"{message.topic}: {error}"] += 1
                continue
            if not event:
                clock = stamp
            if value is not None:
                track.add(stamp, message.stamp_ns, value)
        return parts

    def _mark(self, parts: list[Tracks], message: BagMessage, clock: int) -> None:
        """Adds who had the arm, or how an episode ended, at the newest stamp before it."""
        tracks, received = parts[-1], message.stamp_ns
        if message.topic == self._layout.telemetry_topic:
            tracks.persons.add(clock, received, is_persons(message.message))
            return
        pictures = tracks.track(self._layout.images[0]).stamps
        if len(parts) > 1 and not pictures:
            # The clock was set back between an episode and its report.
            tracks = parts[-2]
            clock = max(tracks.track(self._layout.images[0]).stamps, default=0) + 1
        tracks.outcomes.add(clock, received, message.message.data)

    def _after(self, before: Tracks) -> Tracks:
        """Makes empty tracks that keep the instruction and the last value of event topics."""
        tracks = Tracks()
        tracks.said = before.said.end()
        for topic in self._events:
            if before.track(topic).stamps:
                tracks[topic] = before.track(topic).end()
        return tracks

    def _value(self, message: BagMessage, rule: ActionRule) -> Any:
        take = self._take.get(message.topic)
        if take is not None:
            return take(message)
        if message.topic == self._layout.marker_topic:
            return bool(message.message.data) if message.type == "std_msgs/msg/Bool" else "begin"
        if message.topic == rule.gripper_topic:
            opening = float(message.message.data)
            if not math.isfinite(opening):
                raise JointStateError(f"opening is {opening:g}; accepted: a finite number")
            return opening
        return _motion(message, rule, self._layout)

    def _image(self, message: BagMessage) -> bool:
        """Checks an image; it must have the size of the topic's first."""
        content = message.message
        if message.type == IMAGE:
            check_raw(content)
            size = (content.width, content.height)
        else:
            check_compressed(content)
            try:
                with Image.open(io.BytesIO(bytes(content.data))) as picture:
                    size = picture.size
            except Exception as error:  # each of Pillow's decoders has its own on damage
                raise ImageError(f"picture does not decode ({type(error).__name__})") from error
        first = self._sizes.setdefault(message.topic, size)
        if size != first:
            raise ImageError(
                f"picture of {size[0]} x {size[1]}; accepted: {first[0]} x {first[1]}, as the first"
            )
        return True

    def _joints(self, message: BagMessage) -> ArmState | None:
        if not self._reader.concerns_arm(message.message):
            self._reader.read_fingers(message.message)
            return None
        return self._reader.read(message.message)


def header_stamp(message: BagMessage) -> int:
    """Returns the header stamp, ns, or the time of reception if there is none."""
    header = getattr(message.message, "header", None)
    stamp = 0 if header is None else header.stamp.sec * SECOND + header.stamp.nanosec
    return stamp or message.stamp_ns


def _instruction(message: BagMessage) -> tuple[str, str]:
    """Returns the instruction, and an id that separates one command from the next."""
    content = message.message
    if message.type == TEXT:
        return content.data.strip(), ""
    if message.type == FEEDBACK:
        return content.feedback.instruction.strip(), bytes(content.goal_id.uuid).hex()
    return content.instruction.strip(), ""


def _motion(message: BagMessage, rule: ActionRule, layout: RecordingLayout) -> Any:
    """Reads a pose, a twist (6,) in SI units, or an action (7,); None for a stop of the node."""
    content = message.message
    if rule.kind == "action":
        stopped = content.hold if message.type == TELEMETRY else content.stop
        return None if stopped else np.asarray(content.action, np.float64)
    frame = content.header.frame_id
    accepted = {
        "pose": (layout.base_frame,),
        "twist": (layout.base_frame, layout.tip_frame),
    }[rule.kind]
    if frame not in ("", *accepted):
        raise BagError(
            f"{message.topic} is in frame {frame!r}; accepted: {' or '.join(map(repr, accepted))}"
        )
    if rule.kind == "pose":
        point, turn = content.pose.position, content.pose.orientation
        try:
            return _pose([point.x, point.y, point.z], [turn.x, turn.y, turn.z, turn.w])
        except ValueError as error:
            raise JointStateError(f"pose is of no use ({error})") from error
    linear, angular = content.twist.linear, content.twist.angular
    twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    if not np.isfinite(twist).all():
        raise JointStateError("twist is not finite")
    twist *= np.repeat([rule.unit_linear, rule.unit_angular], 3)
    return twist, frame or layout.action.frame


def _pose(position: list[float], quaternion: list[float]) -> Pose:
    if not np.isfinite([*position, *quaternion]).all():
        raise ValueError("it is not finite")
    return Pose(np.array(position), Rotation.from_quat(quaternion).as_matrix())

"""Episodes from a rosbag2 recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heisd_ros.data import clocks
from heisd_ros.data.alignment import DISCARDED, Aligner, Plan
from heisd_ros.data.bag import Bag
from heisd_ros.data.episode import Episode
from heisd_ros.data.images import compressed_to_rgb, raw_to_rgb
from heisd_ros.data.joint_check import JointCheck
from heisd_ros.data.read_report import SECOND, Outline, ReadReport, TopicStatistics
from heisd_ros.data.recording_layout import RecordingLayout
from heisd_ros.data.recording_notes import noted_instruction, read_notes
from heisd_ros.data.source import Prepare, whole
from heisd_ros.data.tracks import IMAGE, TEXT, TrackReader, Tracks, header_stamp
from heisd_ros.errors import BagError, UrdfError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.chain import Description
from heisd_ros.kinematics.joint_states import JointStateReader

DEFAULT_RATE_HZ = 20.0


class BagSource:
    """A `Source`: one bag, read by a robot's layout.

    `outline` reads the bag once, without its pictures; an episode's pictures are read on request.

    Args:
        path: The bag.
        layout: The layout of the robot's recordings.
        rate_hz: Control rate if the layout names none; 0: 20 Hz.

    Raises:
        BagError: The bag cannot be read, or lacks the robot's description.
        UrdfError, JointStateError: The description does not fit the layout.
    """

    def __init__(self, path: Path, layout: RecordingLayout, rate_hz: float = 0.0) -> None:
        self._path, self._layout = path, layout
        place = path.resolve()
        self.label = f"{place.parent.name}/{place.name}"
        self.rate_hz = layout.rate_hz or rate_hz or DEFAULT_RATE_HZ
        self.cameras = layout.images
        self.report = ReadReport()
        with Bag(path) as bag:
            urdf = layout.urdf or _description(bag, layout.description_topic)
            self._notes = read_notes(bag)
        self.robot = robot_name(urdf)
        self.arm = ArmKinematics(urdf, layout.tip_frame, layout.joint_names, layout.base_frame)
        self._plans: list[Plan] | None = None

    def outline(self) -> list[Outline]:
        """See `Source`.

        Raises:
            BagError: A topic is missing or of another type than the layout says.
        """
        plans = self._planned()
        begin = min((plan.begin for plan in plans), default=0)
        return [
            Outline(
                instruction=plan.instruction,
                steps=len(plan),
                start_sec=(plan.begin - begin) / SECOND,
                ended_by=plan.ended_by,
                outcome=plan.outcome,
                person_steps=0 if plan.person is None else int(plan.person.sum()),
            )
            for plan in plans
        ]

    def episode(self, number: int, views: Sequence[str], prepare: Prepare = whole) -> Episode:
        """See `Source`.

        Raises:
            BagError: There are fewer cameras than views, or a picture cannot be read again.
        """
        if len(views) > len(self._layout.images):
            raise BagError(
                f"{self._path}: {len(self._layout.images)} topics of pictures "
                f"{list(self._layout.images)}, but the views are {list(views)}; name a topic for "
                "each in recording.images"
            )
        plan = self._planned()[number]
        images = self._images(plan, len(views), prepare) if views else []
        return Episode(
            instruction=plan.instruction,
            images=dict(zip(views, images, strict=False)),
            actions=plan.actions,
            joint_positions=plan.positions,
            joint_velocities=plan.velocities,
            gripper_opening=plan.openings,
            stride=plan.stride,
            person=plan.person,
            outcome=plan.outcome,
        )

    def _planned(self) -> list[Plan]:
        if self._plans is None:
            self._plans = self._read()
        return self._plans

    def _read(self) -> list[Plan]:
        self.report = report = ReadReport()
        reader = JointStateReader(
            self.arm, self._layout.gripper_joints, travel=self._layout.finger_travel
        )
        with Bag(self._path) as bag:
            parts = TrackReader(bag, self._layout, reader, report.dropped).read()
            report.damage, report.remarks = bag.damage, bag.remarks
            report.dropped.update(bag.unreadable)
        self._check_joints(parts)
        offsets = self._offsets(parts)
        if clocks.differ(offsets, self._layout.tolerance_sec):
            report.warnings.append(clocks.describe(offsets, self._layout.tolerance_sec))
        aligner = Aligner(self._layout, self.rate_hz, report.dropped, report.cuts)
        report.notes = self._notes
        instruction = noted_instruction(self._notes) or self._layout.instruction
        plans = [plan for tracks in parts for plan in aligner.plans(tracks, instruction)]
        report.topics = _statistics(parts, self._layout.instruction_topic)
        if not plans and not report.dropped[DISCARDED]:  # one of discarded episodes alone is good
            if clocks.spread(offsets) > self._layout.tolerance_sec and not report.warnings:
                report.warnings.append(clocks.describe(offsets, self._layout.tolerance_sec))
            why = [f"{count} x {reason}" for reason, count in report.dropped.most_common()]
            more = [*report.warnings, *([report.damage] if report.damage else [])]
            raise BagError(
                f"{self._path} holds no episode: {'; '.join([*(why or ['no picture']), *more])}"
            )
        return plans

    def _check_joints(self, parts: list[Tracks]) -> None:
        """Notes impossible joint positions in the report."""
        check, topic = JointCheck(self.arm), self._layout.joint_states
        tracks = [tracks.track(topic) for tracks in parts if tracks.track(topic).stamps]
        for track in tracks:
            seconds = np.subtract(track.stamps, tracks[0].stamps[0]) / SECOND
            check.add(np.stack([state.positions for state in track.values]), seconds)
        self.report.warnings += [f"{topic}: {line}" for line in check.lines()]
        self.report.unusable = f"{topic}: {check.unusable}" if check.unusable else ""

    def _offsets(self, parts: list[Tracks]) -> dict[str, float]:
        """Returns how far stamps are ahead of their reception, s, by topic."""
        found = {}
        for topic in (*self._layout.images, self._layout.joint_states):
            track = max((tracks.track(topic) for tracks in parts), key=lambda t: len(t.stamps))
            if track.stamps:
                found[topic] = clocks.offset(np.subtract(track.stamps, track.received))
        return found

    def _images(self, plan: Plan, views: int, prepare: Prepare) -> list[np.ndarray]:
        """Reads the pictures (T, H, W, 3) of each view."""
        topics, times = self._layout.images[:views], plan.received[:, :views]
        # A picture of a slower camera may be in several steps.
        rows: dict[tuple[str, int, int], list[int]] = {}
        for view, topic in enumerate(topics):
            for row, (received, stamp) in enumerate(
                zip(times[:, view], plan.stamps[:, view], strict=True)
            ):
                rows.setdefault((topic, int(received), int(stamp)), []).append(row)
        found: dict[str, dict[int, np.ndarray]] = {topic: {} for topic in topics}
        with Bag(self._path) as bag:
            for message in bag.messages(topics, int(times.min()), int(times.max()) + 1):
                places = rows.get((message.topic, message.stamp_ns, header_stamp(message)))
                if places:
                    convert = raw_to_rgb if message.type == IMAGE else compressed_to_rgb
                    picture = prepare(convert(message.message))
                    found[message.topic].update(dict.fromkeys(places, picture))
        for topic, pictures in found.items():
            if len(pictures) < len(plan):
                raise BagError(f"{self._path}: pictures of {topic} were there and are not now")
        return [
            np.stack([pictures[row] for row in range(len(plan))]) for pictures in found.values()
        ]


def robot_name(urdf: str) -> str:
    """Returns the name of the robot in a URDF.

    Raises:
        BagError: The text is no URDF.
    """
    try:
        return Description(urdf).name
    except UrdfError as error:
        raise BagError(f"the robot's description is {error}") from error


def _description(bag: Bag, topic: str) -> str:
    bag.require({topic: [TEXT]})
    for message in bag.messages([topic]):
        return str(message.message.data)
    raise BagError(
        f"{bag.path}: nothing was recorded on {topic}; give the URDF, by robot.urdf or --urdf"
    )


def _statistics(parts: list[Tracks], instruction_topic: str) -> dict[str, TopicStatistics]:
    """Computes statistics by topic, for the longest stretch between two clock jumps."""
    topics = sorted({topic for tracks in parts for topic in tracks})
    stretches = {topic: [tracks.track(topic).stamps for tracks in parts] for topic in topics}
    if instruction_topic:
        stretches.setdefault(instruction_topic, [tracks.said.stamps for tracks in parts])
    found = {}
    for topic, stamps in stretches.items():
        found[topic] = TopicStatistics.of(max(stamps, key=len))
        found[topic].messages = sum(map(len, stamps))
    return found

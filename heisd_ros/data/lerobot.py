"""Episodes from LeRobot data sets, versions 2.0, 2.1 and 3: parquet tables and mp4 videos.

The layout is that of huggingface/lerobot, `lerobot/datasets/utils.py` and `lerobot_dataset.py`.
In version 2 an episode is a file, in version 3 a span of one; `meta/info.json` has the paths.
Needs the extra `lerobot` (pyarrow and PyAV).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from heisd_ros.data.episode import Episode
from heisd_ros.data.export_notes import Notes
from heisd_ros.data.joint_check import JointCheck
from heisd_ros.data.lerobot_features import Columns, FeatureMap, feature_of
from heisd_ros.data.lerobot_index import INFO, Index, Info, Recorded, named, regular
from heisd_ros.data.packages import package
from heisd_ros.data.read_report import Outline, ReadReport, TopicStatistics
from heisd_ros.data.source import Prepare, whole
from heisd_ros.data.text_files import one_line
from heisd_ros.errors import DemonstrationError
from heisd_ros.kinematics.arm import ArmKinematics

__all__ = ["INFO", "FeatureMap", "LeRobotSource"]

SHORTEST = 2
"""Least number of steps in an episode: a single step has no motion."""


class _Unfit(Exception):
    """Raised if an episode cannot be used; the text is the reason, the same for all episodes."""


@dataclass(frozen=True)
class _Entry:
    """Steps of one instruction: rows of a recorded episode.

    Attributes:
        recorded: The episode.
        instruction: The task in words.
        begin: Its first row.
        steps: Its rows.
        ended_by: Why it ends there.
        person_steps: Number of rows in which a person had the arm.
    """

    recorded: Recorded
    instruction: str
    begin: int
    steps: int
    ended_by: str
    person_steps: int

    @property
    def outcome(self) -> str:
        """How it ended; empty where the recorded episode continues."""
        return "" if self.ended_by else self.recorded.outcome


class LeRobotSource:
    """A `Source`: one LeRobot data set on disk.

    Args:
        folder: With `meta/info.json`.
        features: Maps roles to features.
        arm: Kinematics of the robot, which the data set does not hold.

    Raises:
        DemonstrationError: The folder holds no such data set, or another version.
        MissingPackageError: pyarrow is not installed.
    """

    def __init__(self, folder: Path, features: FeatureMap, arm: ArmKinematics) -> None:
        self._folder, self._features, self.arm = folder, features, arm
        self._info = info = Info.read(folder)
        notes = Notes.read(folder)
        self._stride = 1 if notes is None else notes.stride
        self.rate_hz = info.fps * self._stride
        self._parquet = package("pyarrow.parquet")
        self.label = folder.resolve().name
        self.robot = features.robot or info.robot
        self.cameras = features.images or tuple(info.pictures)
        for name in self.cameras:
            if name not in info.pictures:
                raise DemonstrationError(
                    f"{folder} has no pictures {name!r}; it has {list(info.pictures)}"
                )
        self.report = ReadReport()
        self._entries: list[_Entry] | None = None

    def outline(self) -> list[Outline]:
        """See `Source`. Episodes that cannot be used are left out, and counted.

        Raises:
            DemonstrationError: The list of episodes is missing or damaged, or none can be used.
        """
        return [
            Outline(
                entry.instruction,
                entry.steps,
                entry.recorded.init_state,
                ended_by=entry.ended_by,
                outcome=entry.outcome,
                person_steps=entry.person_steps,
            )
            for entry in self._all()
        ]

    def episode(self, number: int, views: Sequence[str], prepare: Prepare = whole) -> Episode:
        """See `Source`.

        Raises:
            DemonstrationError: A table or video is missing or damaged, or has fewer frames than
                steps; there are fewer pictures than views.
        """
        entry = self._all()[number]
        if len(views) > len(self.cameras):
            raise DemonstrationError(
                f"{self._folder} has pictures {list(self.cameras)}, the views are {list(views)}; "
                "name one for each under 'images'"
            )
        names = dict(zip(views, self.cameras, strict=False))
        with named(f"{self._folder}, episode {entry.recorded.number}"):
            cells = [n for n in names.values() if self._info.pictures[n] == "image"]
            rows = self._rows(entry.recorded, cells).slice(entry.begin, entry.steps)
            column = Columns(rows)
            opening = self._features.gripper_opening
            speeds, landmarks = self._features.joint_velocities, self._features.landmarks
            person = self._features.person
            return Episode(
                instruction=entry.instruction,
                images={
                    view: self._pictures(entry.recorded, name, rows, prepare)
                    for view, name in names.items()
                },
                actions=column(self._features.actions),
                joint_positions=column(self._features.joint_positions),
                joint_velocities=column(speeds) if speeds else None,
                gripper_opening=(
                    np.abs(column(opening)).sum(axis=1) if opening else np.zeros(entry.steps)
                ),
                landmarks=column(landmarks) if landmarks else None,
                init_state=entry.recorded.init_state,
                stride=self._stride,
                person=column(person)[:, 0] > 0.5 if person else None,
                outcome=entry.outcome,
            )

    def _all(self) -> list[_Entry]:
        if self._entries is None:
            self.report = ReadReport()
            self._entries = self._read()
        return self._entries

    def _read(self) -> list[_Entry]:
        """Lists the usable episodes; others are counted in the report."""
        videos = [name for name in self.cameras if self._info.pictures[name] == "video"]
        index = Index(self._folder, self._info, videos, self._parquet)
        tasks, check, report = index.tasks(), JointCheck(self.arm), self.report
        entries, listed, odd = [], 0, ""
        for recorded in index.recorded():
            listed += 1
            try:
                found = list(self._usable(recorded, tasks, check))
            except _Unfit as error:
                cause = one_line(error.__cause__ or error)
                odd = odd or f"first episode left out: {recorded.number}, {cause}"
                report.dropped[f"episode: {error}"] += 1
                continue
            short = [entry for entry in found if entry.steps < SHORTEST]
            report.dropped.update(f"episode of fewer than {SHORTEST} steps" for _ in short)
            entries += [entry for entry in found if entry.steps >= SHORTEST]
        report.remarks += [odd] if odd else []
        if self._info.total is not None and listed < self._info.total:
            report.damage = f"{INFO} counts {self._info.total} episodes, {listed} are listed"
        report.warnings = [f"{self._features.joint_positions}: {line}" for line in check.lines()]
        report.unusable = report.warnings[0] if check.unusable else ""
        if not entries:
            why = [f"{count} x {reason}" for reason, count in report.dropped.most_common()]
            why += report.remarks or ["none is listed"]
            raise DemonstrationError(f"{self._folder} holds no episode: {'; '.join(why)}")
        steps = sum(entry.steps for entry in entries)
        report.topics = {name: TopicStatistics(steps, self._info.fps) for name in self.cameras}
        return entries

    def _usable(
        self, recorded: Recorded, tasks: dict[int, str], check: JointCheck
    ) -> Iterator[_Entry]:
        """Yields an episode, or several if it has several instructions.

        Raises:
            _Unfit: It cannot be used.
            DemonstrationError: No episode can: the feature map does not fit.
        """
        try:
            rows = self._rows(recorded)
        except Exception as error:  # damage raises errors of many kinds
            raise _Unfit("its table is missing or damaged") from error
        with named(f"{self._folder}, episode {recorded.number}"):
            column = Columns(rows)
            numbers = {name: column(name) for name in self._columns()}
            positions = numbers[self._features.joint_positions]
            if positions.shape[1] != len(self.arm.joint_names):
                raise ValueError(
                    f"{self._features.joint_positions!r} has {positions.shape[1]} numbers; "
                    f"accepted: {len(self.arm.joint_names)}, a number for each joint of the arm"
                )
        if len(rows) != recorded.length:
            raise _Unfit("its table has another number of rows than it is said to have")
        if not all(np.isfinite(values).all() for values in numbers.values()):
            raise _Unfit("its numbers are not all finite")
        fps = self._info.fps
        seconds = np.arange(len(rows), dtype=np.float64) / fps
        if not _even(rows, fps):
            raise _Unfit("its frames are not a step apart")
        told = _told(rows, recorded, tasks)
        check.add(positions, seconds, f"episode {recorded.number}, ")
        ends = [i for i in range(1, len(told)) if told[i] != told[i - 1]]
        for begin, end in zip([0, *ends], [*ends, len(told)], strict=True):
            ended_by = "another instruction" if end < len(told) else ""
            persons = numbers.get(self._features.person, np.zeros((len(rows), 1)))[begin:end]
            yield _Entry(
                recorded, told[begin], begin, end - begin, ended_by, int((persons > 0.5).sum())
            )

    def _columns(self) -> list[str]:
        """Lists the numeric columns that the feature map names."""
        features = self._features
        names = (features.joint_positions, features.actions, features.gripper_opening)
        more = (features.joint_velocities, features.landmarks, features.person)
        return [name for name in (*names, *more) if name]

    def _rows(self, recorded: Recorded, more: Sequence[str] = ()) -> Any:
        """Reads an episode's rows in order, with the requested columns."""
        regular(recorded.table)
        wanted = {"frame_index", "timestamp", "task_index", *more}
        wanted |= {feature_of(column) for column in self._columns()}
        there = self._parquet.read_schema(recorded.table).names
        rows = self._parquet.read_table(
            recorded.table,
            columns=[name for name in there if name in wanted],
            filters=[("episode_index", "=", recorded.number)],
            partitioning=None,
        )
        return rows.sort_by("frame_index")

    def _pictures(self, recorded: Recorded, name: str, rows: Any, prepare: Prepare) -> np.ndarray:
        if self._info.pictures[name] == "image":
            return np.stack([prepare(_decoded(cell)) for cell in rows[name].to_pylist()])
        path, start = recorded.videos[name]
        regular(path)
        stamps = np.asarray(rows["timestamp"].to_numpy(), np.float64) + start
        return np.stack([prepare(p) for p in _frames(path, stamps, 0.5 / self._info.fps)])


def _even(rows: Any, rate_hz: float) -> bool:
    """Whether frames follow one another without a gap, by their numbers and times."""
    frames = np.asarray(rows["frame_index"].to_pylist(), np.float64)
    if (np.diff(frames) != 1.0).any():
        return False
    if "timestamp" not in rows.column_names or len(frames) == 0:
        return True
    seconds = np.asarray(rows["timestamp"].to_pylist(), np.float64)
    off = (seconds - seconds[0]) - (frames - frames[0]) / rate_hz
    return bool((np.abs(off) < 0.5 / rate_hz).all())


def _told(rows: Any, recorded: Recorded, tasks: dict[int, str]) -> list[str]:
    """Returns the instruction of each row.

    Raises:
        _Unfit: It is not known.
    """
    if "task_index" not in rows.column_names:
        if len(recorded.told) != 1:
            raise _Unfit("it has several tasks, and its rows no task_index")
        told = recorded.told * len(rows)
    else:
        numbers = rows["task_index"].to_pylist()
        one = recorded.told[0] if len(recorded.told) == 1 and len(set(numbers)) == 1 else ""
        told = [tasks.get(number, one) for number in numbers]
    if not all(told):
        raise _Unfit("it has rows without an instruction")
    return told


def _decoded(cell: Any) -> np.ndarray:
    """Decodes a picture stored in a table as `{"bytes", "path"}`."""
    content = cell.get("bytes") if isinstance(cell, dict) else None
    if not content:
        raise ValueError("a picture of its table has no bytes; accepted: {'bytes', 'path'}")
    with Image.open(io.BytesIO(content)) as picture:
        return np.array(picture.convert("RGB"))


def _frames(path: Path, stamps: np.ndarray, tolerance: float) -> Iterator[np.ndarray]:
    """Yields the video frame nearest to each of some increasing times, s.

    Raises:
        ValueError: None is within the tolerance (s), or the video cannot be decoded.
    """
    av = package("av")
    wanted = iter(stamps.tolist())
    stamp = next(wanted)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(int(max(stamps[0] - tolerance, 0.0) / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time < stamp - tolerance:
                continue
            if frame.time > stamp + tolerance:
                break
            yield frame.to_ndarray(format="rgb24")
            following = next(wanted, None)
            if following is None:
                return
            stamp = following
    raise ValueError(f"{path} has no frame at {stamp:.3f} s")

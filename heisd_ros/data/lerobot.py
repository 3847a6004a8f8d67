"""Episodes from LeRobot data sets, versions 2.1 and 3: parquet tables and mp4 videos.

The layout is that of huggingface/lerobot, `lerobot/datasets/utils.py` and `lerobot_dataset.py`.
In version 2.1 an episode is a file, in version 3 a span of one; `meta/info.json` has the paths.
Needs the extra `lerobot` (pyarrow and PyAV).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from heisd_ros.data.episode import Episode
from heisd_ros.data.report import Outline, ReadReport, TopicStatistics
from heisd_ros.data.source import Prepare, whole
from heisd_ros.errors import DemonstrationError, MissingPackageError
from heisd_ros.kinematics.arm import ArmKinematics

INFO = "meta/info.json"
_COLUMN = re.compile(r"([\w.]+?)(?:\[(\d+):(\d+)\])?")
_DAMAGE = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError)
"""What pyarrow, json and PyAV raise on damage, and what follows from a missing key."""


@dataclass(frozen=True)
class FeatureMap:
    """Which features of a data set are what.

    A column is a feature's name, or some of its numbers: `observation.state[0:7]`.

    Attributes:
        joint_positions: Column of the arm's joints, rad.
        actions: Column of the 7 numbers of an action, in the model's units.
        gripper_opening: Column of the distance between the fingers, m; two numbers (one a finger)
            are added up, without sign. Empty: 0.
        joint_velocities: Column, rad/s; empty: none.
        images: Features of the pictures, in the order of the model's views; empty: all, in the
            order of `info.json`.
        robot: Name of the robot; empty: as `info.json` says.
    """

    joint_positions: str
    actions: str = "action"
    gripper_opening: str = ""
    joint_velocities: str = ""
    images: tuple[str, ...] = field(default=())
    robot: str = ""

    @classmethod
    def read(cls, path: Path) -> FeatureMap:
        """Reads a YAML file with these attributes as keys.

        Raises:
            DemonstrationError: It cannot be read, or has another key or kind of value.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeError, yaml.YAMLError) as error:
            raise DemonstrationError(f"{path}: {' '.join(str(error).split())}") from error
        accepted = list(cls.__dataclass_fields__)
        if not isinstance(values, dict) or "joint_positions" not in values:
            raise DemonstrationError(f"{path} is {values!r}; accepted: a mapping of {accepted}")
        for key, value in values.items():
            texts = value if key == "images" and isinstance(value, list) else [value]
            if key not in accepted or not all(isinstance(text, str) for text in texts):
                raise DemonstrationError(f"{path}: {key!r} is {value!r}; accepted: {accepted}")
        images = values.pop("images", [])
        return cls(**values, images=tuple([images] if isinstance(images, str) else images))


@dataclass(frozen=True)
class _Entry:
    """One episode: instruction, steps, its table and where it begins in each video, s."""

    number: int
    instruction: str
    steps: int
    table: Path
    videos: dict[str, tuple[Path, float]]


class LeRobotSource:
    """A `Source`: one LeRobot data set on disk.

    Args:
        folder: With `meta/info.json`.
        features: Which features are what.
        arm: Kinematics of the robot, which the data set does not hold.

    Raises:
        DemonstrationError: The folder holds no such data set, or another version.
        MissingPackageError: pyarrow is not installed.
    """

    def __init__(self, folder: Path, features: FeatureMap, arm: ArmKinematics) -> None:
        self._folder, self._features, self.arm = folder, features, arm
        try:
            self._info = json.loads((folder / INFO).read_text(encoding="utf-8"))
            version = str(self._info["codebase_version"]).removeprefix("v")
            self.rate_hz = float(self._info["fps"])
            known = dict(self._info["features"])
        except _DAMAGE as error:
            raise DemonstrationError(f"{folder / INFO} is none of LeRobot's: {error!r}") from error
        if version not in ("2.1", "3.0"):
            raise DemonstrationError(
                f"{folder} is of LeRobot's version {version}; accepted: 2.1 and 3.0"
            )
        self._parquet = _package("pyarrow.parquet")
        self._three = version == "3.0"
        self.label = folder.resolve().name
        self.robot = features.robot or str(self._info.get("robot_type") or "")
        pictures = [n for n, about in known.items() if about["dtype"] in ("video", "image")]
        self.cameras = features.images or tuple(pictures)
        for name in self.cameras:
            if name not in pictures:
                raise DemonstrationError(f"{folder} has no pictures {name!r}; it has {pictures}")
        self._kinds = {name: known[name]["dtype"] for name in self.cameras}
        self.report = ReadReport(
            topics={n: TopicStatistics(0, self.rate_hz) for n in known if n in self.cameras}
        )
        self._entries: list[_Entry] | None = None

    def outline(self) -> list[Outline]:
        """See `Source`. Episodes of fewer than two steps are left out, and counted.

        Raises:
            DemonstrationError: A table is missing or damaged.
        """
        return [Outline(entry.instruction, entry.steps) for entry in self._all()]

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
        try:
            rows = self._parquet.read_table(
                entry.table, filters=[("episode_index", "=", entry.number)]
            )
            rows = rows.sort_by("frame_index")
            if len(rows) != entry.steps:
                raise ValueError(f"{len(rows)} rows for {entry.steps} steps")
            column = _Columns(rows)
            opening = self._features.gripper_opening
            speeds = self._features.joint_velocities
            return Episode(
                instruction=entry.instruction,
                images={
                    view: self._pictures(entry, name, rows, prepare) for view, name in names.items()
                },
                actions=column(self._features.actions),
                joint_positions=column(self._features.joint_positions),
                joint_velocities=column(speeds) if speeds else None,
                gripper_opening=(
                    np.abs(column(opening)).sum(axis=1) if opening else np.zeros(entry.steps)
                ),
            )
        except _DAMAGE as error:
            raise DemonstrationError(
                f"{self._folder}, episode {entry.number}: {' '.join(str(error).split())}"
            ) from error

    def _all(self) -> list[_Entry]:
        if self._entries is None:
            try:
                entries = list(self._third() if self._three else self._second())
            except _DAMAGE as error:
                raise DemonstrationError(
                    f"{self._folder / 'meta'} cannot be read: {' '.join(repr(error).split())}"
                ) from error
            self._entries = [entry for entry in entries if entry.steps > 1]
            if len(self._entries) < len(entries):
                self.report.dropped["episode of fewer than 2 steps"] += len(entries) - len(
                    self._entries
                )
            for statistics in self.report.topics.values():
                statistics.messages = sum(entry.steps for entry in self._entries)
        return self._entries

    def _second(self) -> Iterator[_Entry]:
        """Version 2.1: jsonl tables, a file an episode."""
        for line in (self._folder / "meta/episodes.jsonl").read_text("utf-8").splitlines():
            about = json.loads(line)
            number = int(about["episode_index"])
            chunk = number // int(self._info["chunks_size"])
            place = {"episode_chunk": chunk, "episode_index": number}
            yield self._entry(about, place, dict.fromkeys(self._videos(), (place, 0.0)))

    def _third(self) -> Iterator[_Entry]:
        """Version 3: parquet tables, several episodes a file."""
        for path in sorted((self._folder / "meta/episodes").glob("*/*.parquet")):
            for about in self._parquet.read_table(path).to_pylist():
                spans = {
                    name: (
                        _place(about, f"videos/{name}"),
                        float(about[f"videos/{name}/from_timestamp"]),
                    )
                    for name in self._videos()
                }
                yield self._entry(about, _place(about, "data"), spans)

    def _videos(self) -> list[str]:
        return [name for name, kind in self._kinds.items() if kind == "video"]

    def _entry(
        self,
        about: dict[str, Any],
        place: dict[str, int],
        spans: dict[str, tuple[dict[str, int], float]],
    ) -> _Entry:
        """An episode; paths are made of what their patterns in info.json ask for."""
        return _Entry(
            number=int(about["episode_index"]),
            instruction=str(about["tasks"][0]).strip(),
            steps=int(about["length"]),
            table=self._inside(self._info["data_path"].format(**place)),
            videos={
                name: (
                    self._inside(self._info["video_path"].format(video_key=name, **where)),
                    start,
                )
                for name, (where, start) in spans.items()
            },
        )

    def _inside(self, name: str) -> Path:
        path = self._folder / name
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise ValueError(f"path {name!r} leads out of the data set")
        return path

    def _pictures(self, entry: _Entry, name: str, rows: Any, prepare: Prepare) -> np.ndarray:
        if self._kinds[name] == "image":
            return np.stack([prepare(_decoded(cell)) for cell in rows[name].to_pylist()])
        path, start = entry.videos[name]
        stamps = np.asarray(rows["timestamp"].to_numpy(), np.float64) + start
        return np.stack([prepare(p) for p in _frames(path, stamps, 0.5 / self.rate_hz)])


class _Columns:
    """Columns (T, n) of a table, by the names that a feature map has for them."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __call__(self, text: str) -> np.ndarray:
        match = _COLUMN.fullmatch(text)
        if match is None or match[1] not in self._rows.column_names:
            raise ValueError(f"no feature {text!r}; there are {self._rows.column_names}")
        numbers = np.array(self._rows[match[1]].to_pylist(), np.float64)
        numbers = numbers.reshape(len(numbers), -1)
        if match[2] is None:
            return numbers
        begin, end = int(match[2]), int(match[3])
        if not begin < end <= numbers.shape[1]:
            raise ValueError(f"{text!r}: the feature has {numbers.shape[1]} numbers")
        return numbers[:, begin:end]


def _place(about: dict[str, Any], what: str) -> dict[str, int]:
    return {key: int(about[f"{what}/{key}"]) for key in ("chunk_index", "file_index")}


def _decoded(cell: Any) -> np.ndarray:
    """A picture that lies in a table as `{"bytes", "path"}`."""
    with Image.open(io.BytesIO(cell["bytes"])) as picture:
        return np.array(picture.convert("RGB"))


def _frames(path: Path, stamps: np.ndarray, tolerance: float) -> Iterator[np.ndarray]:
    """The video frame nearest to each of some increasing times, s.

    Raises:
        ValueError: None is within the tolerance (s), or the video cannot be decoded.
    """
    av = _package("av")
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


def _package(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"LeRobot data sets need {name.split('.')[0]}: pip install 'heisd_ros[lerobot]'"
        ) from error

"""The episodes of a LeRobot data set, and the files of their rows and frames."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heisd_ros.data.text_files import inside, one_line, read_lines, read_text
from heisd_ros.errors import DemonstrationError, HeisdError

INFO, EPISODES, TASKS = "meta/info.json", "meta/episodes.jsonl", "meta/tasks.jsonl"
EPISODES_3, TASKS_3 = "meta/episodes", "meta/tasks.parquet"
VERSIONS = ("2.0", "2.1", "3.0")
_PATTERN = re.compile(r"(?:[^{}]|\{\w+(?::0?\d{1,2}d)?\})+")
_OUTCOMES = {True: "success", False: "failure"}
_PICTURES = ("video", "image")


@dataclass(frozen=True)
class Info:
    """The content of `meta/info.json`.

    Attributes:
        version: One of `VERSIONS`.
        fps: Steps a second.
        robot: The robot's type, or empty.
        pictures: Kind (`video` or `image`) by feature.
        data_path: Pattern of the tables' paths.
        video_path: Pattern of the videos' paths, or empty.
        chunk: Episodes in a folder, in version 2.
        total: Number of episodes that it states; None if it states none.
    """

    version: str
    fps: float
    robot: str
    pictures: dict[str, str]
    data_path: str
    video_path: str
    chunk: int
    total: int | None

    @classmethod
    def read(cls, folder: Path) -> Info:
        """Reads `meta/info.json`.

        Raises:
            DemonstrationError: It is missing or damaged, or of a version that is not read.
        """
        place = folder / INFO
        with named(str(place)):
            values = json.loads(read_text(place))
            if not isinstance(values, dict):
                raise ValueError(f"it holds {reprlib.repr(values)}; accepted: LeRobot's keys")
            version = str(need(values, "codebase_version", str)).removeprefix("v")
            if version not in VERSIONS:
                raise ValueError(
                    f"LeRobot's version is {reprlib.repr(version)}; accepted: {', '.join(VERSIONS)}"
                )
            fps = float(need(values, "fps", (int, float)))
            if not 0.0 < fps < 1e6:
                raise ValueError(f"'fps' is {fps}; accepted: above 0")
            pictures = {}
            for name, about in need(values, "features", dict).items():
                kind = about.get("dtype") if isinstance(about, dict) else None
                if not isinstance(kind, str):
                    raise ValueError(f"feature {reprlib.repr(name)} has no 'dtype'")
                if kind in _PICTURES:
                    pictures[name] = kind
            video = values.get("video_path") or ""
            if not video and "video" in pictures.values():
                raise ValueError("'video_path' is missing, and features are videos")
            chunk = values.get("chunks_size", 1000)
            if not isinstance(chunk, int) or chunk < 1:
                raise ValueError(f"'chunks_size' is {reprlib.repr(chunk)}; accepted: from 1")
            total, robot = values.get("total_episodes"), values.get("robot_type")
            return cls(
                version=version,
                fps=fps,
                robot=robot if isinstance(robot, str) else "",
                pictures=pictures,
                data_path=_pattern("data_path", need(values, "data_path", str)),
                video_path=_pattern("video_path", video) if video else "",
                chunk=chunk,
                total=total if isinstance(total, int) else None,
            )


@dataclass(frozen=True)
class Recorded:
    """An episode as the data set lists it.

    Attributes:
        number: Its index.
        told: Its instructions.
        length: Number of rows.
        table: The parquet file of the rows.
        videos: Of each feature its file, and when in it the episode begins, s.
        outcome: "success" or "failure" by the column `success`; empty where it does not say.
        init_state: Number of the fixed initial state that it started from, or None.
    """

    number: int
    told: list[str]
    length: int
    table: Path
    videos: dict[str, tuple[Path, float]]
    outcome: str = ""
    init_state: int | None = None


class Index:
    """The list of a data set's episodes.

    Args:
        folder: With `meta/info.json`.
        info: What that says.
        videos: Features whose videos are wanted.
        parquet: The module `pyarrow.parquet`.
    """

    def __init__(self, folder: Path, info: Info, videos: Iterable[str], parquet: Any) -> None:
        self._folder, self._info, self._videos = folder, info, list(videos)
        self._parquet = parquet

    def tasks(self) -> dict[int, str]:
        """Reads instructions by task_index; empty if there is no such table.

        Raises:
            DemonstrationError: It is damaged; it names file and line.
        """
        place = self._folder / (TASKS_3 if self._info.version == "3.0" else TASKS)
        if not place.exists():
            return {}
        tasks = {}
        rows = self._table(place) if self._info.version == "3.0" else _jsonl(place)
        for where, row in rows:
            with named(where):
                number = int(need(row, "task_index", int))
                texts = [v for k, v in row.items() if k != "task_index" and isinstance(v, str)]
                if not texts:
                    raise ValueError(f"it names no task: {reprlib.repr(row)}")
                tasks[number] = texts[0].strip()
        return tasks

    def recorded(self) -> Iterator[Recorded]:
        """Yields the episodes in order.

        Raises:
            DemonstrationError: The list is missing or damaged; it names file and line.
        """
        if self._info.version != "3.0":
            for where, about in _jsonl(self._folder / EPISODES):
                with named(where):
                    number = int(need(about, "episode_index", int))
                    place = {"episode_chunk": number // self._info.chunk, "episode_index": number}
                    yield self._episode(about, place, dict.fromkeys(self._videos, (place, 0.0)))
            return
        files = sorted((self._folder / EPISODES_3).glob("*/*.parquet"))
        if not files:
            raise DemonstrationError(f"{self._folder / EPISODES_3} has no file */*.parquet")
        for file in files:
            for where, about in self._table(file):
                with named(where):
                    spans = {
                        name: (
                            _place(about, f"videos/{name}"),
                            float(need(about, f"videos/{name}/from_timestamp", (int, float))),
                        )
                        for name in self._videos
                    }
                    yield self._episode(about, _place(about, "data"), spans)

    def _episode(
        self,
        about: dict[str, Any],
        place: dict[str, int],
        spans: dict[str, tuple[dict[str, int], float]],
    ) -> Recorded:
        """Makes an episode, with paths from the patterns in info.json."""
        told = need(about, "tasks", list)
        success, state = about.get("success"), about.get("init_state")
        return Recorded(
            number=int(need(about, "episode_index", int)),
            told=[text.strip() for text in told if isinstance(text, str)],
            length=int(need(about, "length", int)),
            table=self._file("data_path", self._info.data_path, place),
            videos={
                name: (
                    self._file("video_path", self._info.video_path, {"video_key": name, **where}),
                    start,
                )
                for name, (where, start) in spans.items()
            },
            outcome=_OUTCOMES.get(success, "") if isinstance(success, bool) else "",
            init_state=state if isinstance(state, int) else None,
        )

    def _file(self, key: str, pattern: str, values: dict[str, Any]) -> Path:
        try:
            name = pattern.format(**values)
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(
                f"{key} in {INFO} is {pattern!r}; accepted: a pattern of {sorted(values)}"
            ) from error
        if not inside(name):
            raise ValueError(f"{key} in {INFO} makes {name!r}, which leads out of the data set")
        return self._folder / name

    def _table(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the rows of a table with their places, without the columns of statistics."""
        with named(str(path)):
            regular(path)
            names = [
                name
                for name in self._parquet.read_schema(path).names
                if not name.startswith("stats/")
            ]
            rows = self._parquet.read_table(path, columns=names, partitioning=None).to_pylist()
        for number, row in enumerate(rows):
            yield f"{path}, row {number}", row


@contextmanager
def named(where: str, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turns every error inside into a `DemonstrationError` of one line.

    Args:
        where: What is being read: a file, and a line or part of it.
        passing: Errors that are left as they are, besides our own.
    """
    left: tuple[type[Exception], ...] = (HeisdError, *passing)
    try:
        yield
    except left:
        raise
    except Exception as error:  # libraries' errors on damage are of many kinds
        raise DemonstrationError(f"{where}: {one_line(error)}") from error


def need(values: dict[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    """Returns a value of a mapping.

    Raises:
        ValueError: It is missing or of another kind.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    value = values.get(key)
    if not isinstance(value, kinds) or isinstance(value, bool):
        what = reprlib.repr(value) if key in values else "missing"
        raise ValueError(f"{key!r} is {what}; accepted: {' or '.join(k.__name__ for k in kinds)}")
    return value


def regular(path: Path) -> None:
    """Checks that a path is a file: a pipe or device might never end.

    Raises:
        ValueError: It is none.
    """
    if not path.is_file():
        raise ValueError(f"{path} is {'no file' if path.exists() else 'missing'}")


def _jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the objects of a file, one per line, with their places."""
    lines = read_lines(path)
    while True:
        with named(str(path)):
            found = next(lines, None)
        if found is None:
            return
        number, text = found
        with named(f"{path}, line {number}"):
            value = json.loads(text)
            if not isinstance(value, dict):
                raise ValueError(f"it is {reprlib.repr(value)}; accepted: an object")
        yield f"{path}, line {number}", value


def _pattern(key: str, text: str) -> str:
    if not isinstance(text, str) or not _PATTERN.fullmatch(text):
        raise ValueError(f"{key!r} is {reprlib.repr(text)}; accepted: a path with {{name:03d}}")
    return text


def _place(about: dict[str, Any], what: str) -> dict[str, int]:
    return {key: int(need(about, f"{what}/{key}", int)) for key in ("chunk_index", "file_index")}

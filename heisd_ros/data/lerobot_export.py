"""Writes episodes as a LeRobot data set, version 3.0.

The layout is that of huggingface/lerobot, `lerobot/datasets/dataset_writer.py` and
`dataset_metadata.py`. Needs the extra `lerobot` (pyarrow and PyAV).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import heisd_ros
from heisd_ros.data.lerobot_columns import COUNTED
from heisd_ros.data.lerobot_group import Format, Group
from heisd_ros.data.lerobot_index import named
from heisd_ros.data.lerobot_meta import write_meta
from heisd_ros.data.lerobot_notes import NOTES, ROBOT_FILE, Notes
from heisd_ros.data.lerobot_statistics import histogram, of_numbers, of_pictures
from heisd_ros.data.lerobot_survey import Item, Survey, survey
from heisd_ros.data.packages import package
from heisd_ros.data.recording_notes import PARAMETERS_NOTE
from heisd_ros.data.source import Source
from heisd_ros.data.video_file import CODECS, check_codec
from heisd_ros.errors import DemonstrationError
from heisd_ros.files.atomic import replace_text, sync
from heisd_ros.files.bounded import read_object
from heisd_ros.files.work_folder import WorkFolder

PICTURES = (*CODECS, "png")


@dataclass(frozen=True)
class Choices:
    """Options of an export.

    Attributes:
        pictures: One of `PICTURES`: videos, or pictures without loss in the tables.
        left_out: Fields of an episode that are not written, of `lerobot_columns.OPTIONAL`.
        robot_file: Text of the robot's YAML, which is put into the data set; empty: the one that
            was noted in the recordings, if it is one.
    """

    pictures: str = "av1"
    left_out: tuple[str, ...] = ()
    robot_file: str = ""


@dataclass(frozen=True)
class Exported:
    """The outcome of an export.

    Attributes:
        episodes: Number of episodes.
        frames: Number of frames.
        fps: Frames a second.
        stride: Control steps from a frame to the next.
        resumed: Number of episodes that an earlier, interrupted run had written.
    """

    episodes: int
    frames: int
    fps: float
    stride: int
    resumed: int


def export_lerobot(
    sources: Sequence[Source],
    folder: Path,
    choices: Choices = Choices(),
    on_frames: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Writes all episodes of some sources as one data set.

    The folder appears when everything is in it and on the disk. Until then the work is in
    `.NAME.exporting` beside it: the same export resumes there, after the last completed files.

    Args:
        sources: Where the episodes are, all of one robot.
        folder: Where the data set goes; must not exist.
        choices: Options.
        on_frames: Called with the number of frames done and of all, after each episode.

    Raises:
        DemonstrationError: The folder exists, the episodes do not fit into one data set, another
            process writes it, an interrupted export had other options, or there is no room.
        HeisdError: A source cannot be read.
        MissingPackageError: pyarrow or PyAV is not installed.
    """
    if os.path.lexists(folder):
        raise DemonstrationError(f"{folder} exists; accepted: a new folder")
    if choices.pictures not in PICTURES:
        raise DemonstrationError(
            f"pictures as {choices.pictures!r} are not written; accepted: {', '.join(PICTURES)}"
        )
    package("pyarrow.parquet")
    if choices.pictures in CODECS:
        check_codec(CODECS[choices.pictures])
    found = survey(sources, choices.left_out)
    noted = {source.report.notes.get(PARAMETERS_NOTE, "") for source in sources}
    if not choices.robot_file and len(noted) == 1:
        choices = replace(choices, robot_file=noted.pop())
    plan = {
        "pictures": choices.pictures,
        "columns": found.columns.features(),
        "cameras": found.cameras,
        "rate": [found.rate_hz, found.stride],
        "robot file": choices.robot_file,
        "episodes": found.plan(),
        "version": heisd_ros.__version__,
    }
    work_place = folder.parent / f".{folder.name}.exporting"
    try:
        with WorkFolder(work_place, plan, DemonstrationError, "export") as work:
            exported = _Export(work.folder, found, choices, sources).run(on_frames)
            os.rename(work.folder / "set", folder)
            sync(folder.parent)
            work.remove()
    except OSError as error:
        kept = (
            f"; the files completed so far are kept in {work_place}, and the same command resumes "
            "there"
            if work_place.is_dir()
            else ""
        )
        raise DemonstrationError(
            f"{folder} cannot be written: {error.strerror or error}{kept}"
        ) from error
    return exported


class _Export:
    """One export: groups of files, each with a record when it is complete, then `meta/`."""

    def __init__(
        self, work: Path, found: Survey, choices: Choices, sources: Sequence[Source]
    ) -> None:
        self._work, self._set, self._found = work, work / "set", found
        self._choices, self._sources = choices, sources
        codec = CODECS.get(choices.pictures)
        self._form = Format(found.columns.features(), found.cameras, codec, found.fps)
        self._tasks: dict[str, int] = {}
        for item in found.items:
            self._tasks.setdefault(item.outline.instruction, len(self._tasks))
        self._records = list(self._completed())
        self._sizes: dict[str, list[int]] = {}

    def run(self, on_frames: Callable[[int, int], None]) -> Exported:
        """Writes what is missing, and `meta/`."""
        total = sum(item.outline.steps for item in self._found.items)
        rows = [row for record in self._records for row in record["episodes"]]
        resumed = begin = len(rows)
        frames = sum(row["length"] for row in rows)
        for record in self._records:
            self._sizes = record["sizes"]
        while begin < len(self._found.items):
            record = self._group(begin, frames, lambda done: on_frames(done, total))
            replace_text(self._record(len(self._records)), json.dumps(record))
            self._records.append(record)
            begin += len(record["episodes"])
            frames += sum(row["length"] for row in record["episodes"])
        write_meta(
            self._set, self._form, self._records, self._sizes, list(self._tasks), self._found.robot
        )
        self._write_notes()
        return Exported(begin, frames, float(self._found.fps), self._found.stride, resumed)

    def _record(self, number: int) -> Path:
        return self._work / f"group-{number:06d}.json"

    def _completed(self) -> Iterator[dict[str, Any]]:
        """Yields the records of the groups that are complete."""
        number = 0
        while self._record(number).is_file():
            path = self._record(number)
            yield read_object(
                path, lambda text: DemonstrationError(f"{text}; remove {self._work}"),
                values=10_000_000,
            )  # fmt: skip
            number += 1

    def _group(self, begin: int, frames: int, on_frames: Callable[[int], None]) -> dict[str, Any]:
        """Writes one group of episodes, from a given one on.

        Args:
            begin: Number of the first episode.
            frames: Number of frames before it.
            on_frames: Called with the number of frames done.

        Returns:
            The record: rows of `meta/episodes`, and counts of the pictures' values.
        """
        group = Group(self._set, len(self._records), self._form)
        rows: list[dict[str, Any]] = []
        counts = {name: np.zeros((3, 256), np.int64) for name in self._form.cameras}
        pictures = 0
        try:
            for number, item in enumerate(self._found.items[begin:], begin):
                if group.full(item.outline.steps):
                    break
                row, shown, sampled = self._episode(group, item, number, frames)
                rows.append(row)
                for name, count in shown.items():
                    counts[name] += count
                pictures += sampled
                frames += row["length"]
                on_frames(frames)
            group.close()
        except BaseException:
            group.abandon()
            raise
        return {
            "episodes": rows,
            "counts": {name: count.tolist() for name, count in counts.items()},
            "pictures": pictures,
            "sizes": self._sizes,
        }

    def _episode(
        self, group: Group, item: Item, number: int, before: int
    ) -> tuple[dict[str, Any], dict[str, np.ndarray], int]:
        """Writes an episode.

        Returns:
            Its row of `meta/episodes`, the counts of its pictures' values by camera, and the
            number of pictures counted.
        """
        found = self._found
        with named(item.name):
            episode = item.source.episode(item.place, item.source.cameras)
            pictures = dict(zip(found.cameras, episode.images.values(), strict=True))
            self._check_sizes(pictures)
            values = found.columns.values(episode)
        steps = len(episode)
        counted = {
            "timestamp": np.arange(steps) / float(found.fps),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, number),
            "index": np.arange(before, before + steps),
            "task_index": np.full(steps, self._tasks[episode.instruction]),
        }
        values |= {name: counted[name].astype(kind) for name, kind in COUNTED.items()}
        with named(item.name, passing=(OSError,)):
            where = group.add(values, pictures)
        statistics = {name: of_numbers(array) for name, array in values.items()}
        counts, sampled = {}, 0
        for name, array in pictures.items():
            counts[name], sampled = histogram(array)
            statistics[name] = of_pictures(counts[name], sampled)
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [episode.instruction],
            "length": steps,
            **where,
            "statistics": statistics,
            "source": item.source.label,
            "source_episode": item.place,
        }
        if any(other.outline.outcome for other in found.items):
            row["success"] = {"success": True, "failure": False}.get(episode.outcome)
        if any(other.outline.init_state is not None for other in found.items):
            row["init_state"] = episode.init_state
        return row, counts, sampled

    def _check_sizes(self, pictures: dict[str, np.ndarray]) -> None:
        """Checks pictures (T, H, W, 3) by feature; raises ValueError for another size."""
        for name, array in pictures.items():
            size = self._sizes.setdefault(name, list(array.shape[1:3]))
            if list(array.shape[1:3]) != size:
                raise ValueError(
                    f"pictures of {name} are {array.shape[2]} x {array.shape[1]}; accepted: "
                    f"{size[1]} x {size[0]}, as in the first episode"
                )

    def _write_notes(self) -> None:
        """Writes `meta/heisd.json` and the robot's file."""
        sources = [
            {
                "source": source.label,
                "robot": source.robot,
                "episodes": sum(item.source is source for item in self._found.items),
                **({"recorded": source.report.notes} if source.report.notes else {}),
            }
            for source in self._sources
        ]
        features = self._found.columns.feature_map(self._found.cameras, self._found.robot)
        notes = Notes(features, self._found.stride, sources)
        content = notes.content(heisd_ros.__version__)
        replace_text(self._set / NOTES, json.dumps(content, indent=4, ensure_ascii=False))
        if self._choices.robot_file:
            replace_text(self._set / ROBOT_FILE, self._choices.robot_file)

"""Writes episodes as a data set in another program's format. Interrupted, it resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import heisd_ros
from heisd_ros.data.episode import Episode
from heisd_ros.data.export_notes import NOTES, ROBOT_FILE, Notes
from heisd_ros.data.export_survey import Survey, survey
from heisd_ros.data.lerobot_index import named
from heisd_ros.data.recording_notes import PARAMETERS_NOTE
from heisd_ros.data.source import Item, Source
from heisd_ros.errors import DemonstrationError
from heisd_ros.files.atomic import replace_text, sync
from heisd_ros.files.bounded import read_object
from heisd_ros.files.work_folder import WorkFolder

MOST_EPISODES = 500
"""Episodes in a group of files: what an interrupted export may lose."""


@dataclass(frozen=True)
class Choices:
    """Options of an export.

    Attributes:
        pictures: How pictures are encoded; empty: as is usual in the format.
        left_out: Fields of an episode that are not written, of `export_columns.OPTIONAL`.
        robot_file: Text of the robot's YAML, which is put into the data set; empty: the one that
            was noted in the recordings, if it is one.
    """

    pictures: str = ""
    left_out: tuple[str, ...] = ()
    robot_file: str = ""


USUAL = Choices()


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


class Writer(Protocol):
    """Writes the episodes of one data set, in groups: files that are complete together."""

    def open(self, folder: Path, number: int) -> None:
        """Begins a group; what an interrupted run left of it is replaced."""
        ...

    def full(self, frames: int) -> bool:
        """Whether an episode of so many frames should go to another group."""
        ...

    def add(
        self, item: Item, number: int, before: int, episode: Episode, pictures: dict[str, Any]
    ) -> dict[str, Any]:
        """Writes an episode.

        Args:
            item: Where it comes from.
            number: Its number in the data set.
            before: Number of frames of all episodes before it.
            episode: Its content.
            pictures: (T, H, W, 3) uint8 by the names of `Survey.cameras`.

        Returns:
            What the data set says of it, as JSON values; among them its `length`.

        Raises:
            OSError: It cannot be written.
            ValueError: The format cannot hold it.
        """
        ...

    def close(self) -> dict[str, Any]:
        """Completes the group and returns what is to be known of it, as JSON values.

        Raises:
            OSError: It cannot be written.
        """
        ...

    def abandon(self) -> None:
        """Closes the group's files as they are, after an error."""
        ...

    def finish(
        self, folder: Path, records: list[dict[str, Any]], sizes: dict[str, list[int]]
    ) -> None:
        """Writes what describes the whole data set; may be called again after an interruption.

        Args:
            folder: Of the data set.
            records: Of the groups: what `close` returned, and under `episodes` what `add` did.
            sizes: Height and width of the pictures by camera.

        Raises:
            OSError: It cannot be written.
        """
        ...


def export(
    sources: Sequence[Source],
    folder: Path,
    form: str,
    make: Callable[[Survey], Writer],
    choices: Choices,
    on_frames: Callable[[int, int], None],
) -> Exported:
    """Writes all episodes of some sources as one data set.

    The folder appears when everything is in it and on the disk. Until then the work is in
    `.NAME.exporting` beside it: the same export resumes there, after the last completed group.

    Args:
        sources: Where the episodes are, all of one robot.
        folder: Where the data set goes; must not exist.
        form: Name of the format.
        make: Makes the format's writer.
        choices: Options; `pictures` is one that the writer knows.
        on_frames: Called with the number of frames done and of all, after each episode.

    Raises:
        DemonstrationError: The folder exists, the episodes do not fit into one data set, another
            process writes it, an interrupted export had other options, or there is no room.
        HeisdError: A source cannot be read.
    """
    if os.path.lexists(folder):
        raise DemonstrationError(f"{folder} exists; accepted: a new folder")
    found = survey(sources, choices.left_out)
    noted = {source.report.notes.get(PARAMETERS_NOTE, "") for source in sources}
    if not choices.robot_file and len(noted) == 1:
        choices = replace(choices, robot_file=noted.pop())
    elif not choices.robot_file:
        words = f"the sources hold {len(noted)} different robot files or none; {ROBOT_FILE} is not"
        sources[0].report.remarks.append(f"{words} written without --params")
    plan = {
        "format": form,
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
            run = _Run(work.folder, found, make(found))
            exported = run.all_groups(on_frames)
            _write_notes(work.folder / "set", found, sources, choices.robot_file)
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


class _Run:
    """One export: groups of files, each with a record when it is complete."""

    def __init__(self, work: Path, found: Survey, writer: Writer) -> None:
        self._work, self._set = work, work / "set"
        self._found, self._writer = found, writer
        if not self._set.is_dir():  # records that outlived their files: it was put in place before
            for record in work.glob("group-*.json"):
                record.unlink()
        self._records = list(self._completed())
        self._sizes: dict[str, list[int]] = self._records[-1]["sizes"] if self._records else {}

    def all_groups(self, on_frames: Callable[[int, int], None]) -> Exported:
        """Writes what is missing, and what describes the data set."""
        found = self._found
        total = sum(item.outline.steps for item in found.items)
        rows = [row for record in self._records for row in record["episodes"]]
        resumed = begin = len(rows)
        frames = sum(row["length"] for row in rows)
        while begin < len(found.items):
            record = self._group(begin, frames, lambda done: on_frames(done, total))
            replace_text(self._record(len(self._records)), json.dumps(record))
            self._records.append(record)
            begin += len(record["episodes"])
            frames += sum(row["length"] for row in record["episodes"])
        self._writer.finish(self._set, self._records, self._sizes)
        return Exported(begin, frames, float(found.fps), found.stride, resumed)

    def _record(self, number: int) -> Path:
        return self._work / f"group-{number:06d}.json"

    def _completed(self) -> Iterator[dict[str, Any]]:
        """Yields the records of the groups that are complete."""
        number = 0
        while self._record(number).is_file():
            yield read_object(
                self._record(number),
                lambda text: DemonstrationError(f"{text}; remove {self._work}"),
                values=10_000_000,
            )
            number += 1

    def _group(self, begin: int, frames: int, on_frames: Callable[[int], None]) -> dict[str, Any]:
        """Writes one group of episodes, from a given one on.

        Args:
            begin: Number of the first episode.
            frames: Number of frames before it.
            on_frames: Called with the number of frames done.

        Returns:
            The group's record.
        """
        writer = self._writer
        rows: list[dict[str, Any]] = []
        writer.open(self._set, len(self._records))
        try:
            for number, item in enumerate(self._found.items[begin:], begin):
                if rows and (len(rows) >= MOST_EPISODES or writer.full(item.outline.steps)):
                    break
                with named(item.name):
                    episode = item.source.episode(item.place, item.source.cameras)
                    pictures = dict(zip(self._found.cameras, episode.images.values(), strict=True))
                    self._check_sizes(pictures)
                with named(item.name, passing=(OSError,)):
                    rows.append(writer.add(item, number, frames, episode, pictures))
                frames += len(episode)
                on_frames(frames)
            record = writer.close()
        except BaseException:
            writer.abandon()
            raise
        return {**record, "episodes": rows, "sizes": self._sizes}

    def _check_sizes(self, pictures: dict[str, np.ndarray]) -> None:
        """Checks pictures (T, H, W, 3) by camera; raises ValueError for another size."""
        for name, array in pictures.items():
            size = self._sizes.setdefault(name, list(array.shape[1:3]))
            if list(array.shape[1:3]) != size:
                raise ValueError(
                    f"pictures of {name} are {array.shape[2]} x {array.shape[1]}; accepted: "
                    f"{size[1]} x {size[0]}, as in the first episode"
                )


def _write_notes(folder: Path, found: Survey, sources: Sequence[Source], robot_file: str) -> None:
    """Writes `meta/heisd.json` and the robot's file."""
    about = [
        {
            "source": source.label,
            "robot": source.robot,
            "episodes": sum(item.source is source for item in found.items),
            **({"recorded": source.report.notes} if source.report.notes else {}),
        }
        for source in sources
    ]
    notes = Notes(found.columns.feature_map(found.cameras, found.robot), found.stride, about)
    content = notes.content(heisd_ros.__version__, float(found.fps))
    replace_text(folder / NOTES, json.dumps(content, indent=4, ensure_ascii=False))
    if robot_file:
        replace_text(folder / ROBOT_FILE, robot_file)

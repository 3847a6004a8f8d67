"""Writes episodes as a LeRobot data set, version 3.0.

The layout is that of huggingface/lerobot, `lerobot/datasets/dataset_writer.py` and
`dataset_metadata.py`. Needs the extra `lerobot` (pyarrow and PyAV).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from heisd_ros.data.episode import Episode
from heisd_ros.data.export_columns import COUNTED
from heisd_ros.data.export_run import USUAL, Choices, Exported, export
from heisd_ros.data.export_survey import Survey
from heisd_ros.data.lerobot_group import Format, Group
from heisd_ros.data.lerobot_meta import write_meta
from heisd_ros.data.lerobot_statistics import histogram, of_numbers, of_pictures
from heisd_ros.data.packages import package
from heisd_ros.data.source import Item, Source
from heisd_ros.data.video_file import CODECS, Codec, check_codec
from heisd_ros.errors import DemonstrationError

PICTURES = (*CODECS, "png")
"""Videos, or pictures without loss in the tables."""


def export_lerobot(
    sources: Sequence[Source],
    folder: Path,
    choices: Choices = USUAL,
    on_frames: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Writes all episodes of some sources as one LeRobot data set; see `export_run.export`.

    Raises:
        DemonstrationError: See `export`; or the pictures are not of `PICTURES`.
        HeisdError: A source cannot be read.
        MissingPackageError: pyarrow or PyAV is not installed.
    """
    choices = replace(choices, pictures=choices.pictures or PICTURES[0])
    if choices.pictures not in PICTURES:
        raise DemonstrationError(
            f"pictures as {choices.pictures!r} are not written; accepted: {', '.join(PICTURES)}"
        )
    package("pyarrow.parquet")
    codec = CODECS.get(choices.pictures)
    if codec is not None:
        check_codec(codec)
    return export(
        sources, folder, "lerobot", lambda found: _Writer(found, codec), choices, on_frames
    )


class _Writer:
    """A `Writer`: tables and videos, and their statistics."""

    def __init__(self, found: Survey, codec: Codec | None) -> None:
        self._found = found
        self._form = Format(found.columns.features(), found.cameras, codec, found.fps)
        self._tasks: dict[str, int] = {}
        for item in found.items:
            self._tasks.setdefault(item.outline.instruction, len(self._tasks))

    def open(self, folder: Path, number: int) -> None:
        """See `Writer`."""
        self._group = Group(folder, number, self._form)
        self._counts = {name: np.zeros((3, 256), np.int64) for name in self._form.cameras}
        self._pictures = 0

    def full(self, frames: int) -> bool:
        """See `Writer`."""
        return self._group.full(frames)

    def add(
        self, item: Item, number: int, before: int, episode: Episode, pictures: dict[str, Any]
    ) -> dict[str, Any]:
        """See `Writer`: a row of `meta/episodes`, its statistics under one key."""
        steps, found = len(episode), self._found
        counted = {
            "timestamp": np.arange(steps) / float(found.fps),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, number),
            "index": np.arange(before, before + steps),
            "task_index": np.full(steps, self._tasks[episode.instruction]),
        }
        values = found.columns.values(episode)
        values |= {name: counted[name].astype(kind) for name, kind in COUNTED.items()}
        where = self._group.add(values, pictures)
        statistics = {name: of_numbers(array) for name, array in values.items()}
        sampled = 0
        for name, array in pictures.items():
            counts, sampled = histogram(array)
            self._counts[name] += counts
            statistics[name] = of_pictures(counts, sampled)
        self._pictures += sampled
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
        return row

    def close(self) -> dict[str, Any]:
        """See `Writer`: counts of the pictures' values by camera, and of how many pictures."""
        self._group.close()
        counts = {name: count.tolist() for name, count in self._counts.items()}
        return {"counts": counts, "pictures": self._pictures}

    def abandon(self) -> None:
        """See `Writer`."""
        self._group.abandon()

    def finish(
        self, folder: Path, records: list[dict[str, Any]], sizes: dict[str, list[int]]
    ) -> None:
        """See `Writer`."""
        write_meta(folder, self._form, records, sizes, list(self._tasks), self._found.robot)

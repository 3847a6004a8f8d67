"""One table and one video per camera of an exported LeRobot data set, which hold several episodes.

LeRobot puts episodes into a file until it is large. Here a file ends after 900 s as well: LeRobot's
reader compares times in 32 bits with a tolerance of 0.1 ms, which fails beyond 1024 s.
"""

from __future__ import annotations

import io
import json
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from heisd_ros.data.export_columns import COUNTED
from heisd_ros.data.packages import package
from heisd_ros.data.video_file import Codec, VideoFile
from heisd_ros.files.atomic import sync

CHUNK, TABLE_MB, VIDEO_MB = 1000, 100, 200
"""LeRobot's limits: files in a folder, and MiB of a table and of a video."""
LONGEST_SEC = 900.0
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True)
class Format:
    """What is the same for every episode of a data set.

    Attributes:
        features: Of `meta/info.json`: numbers, without pictures.
        cameras: Features of the pictures.
        codec: Of the videos; None: pictures are PNG in the table.
        fps: Frames a second.
    """

    features: dict[str, dict[str, Any]]
    cameras: tuple[str, ...]
    codec: Codec | None
    fps: Fraction


class Group:
    """Files that are being written.

    Args:
        folder: Of the data set.
        number: Of the group, from 0.
        form: The data set's format.
    """

    def __init__(self, folder: Path, number: int, form: Format) -> None:
        self._pa, self._pq = package("pyarrow"), package("pyarrow.parquet")
        self._form, self._frames = form, 0
        self.place = {"chunk_index": number // CHUNK, "file_index": number % CHUNK}
        self._schema = _schema(self._pa, form)
        self._table = folder / DATA_PATH.format(**self.place)
        self._table.parent.mkdir(parents=True, exist_ok=True)
        self._writer = self._pq.ParquetWriter(self._table, self._schema, compression="snappy")
        self._videos: dict[str, VideoFile] = {}
        if form.codec is not None:
            for name in form.cameras:
                path = folder / VIDEO_PATH.format(video_key=name, **self.place)
                self._videos[name] = VideoFile(path, form.codec, form.fps)

    def full(self, frames: int) -> bool:
        """Whether so many frames more should go to another group."""
        longer = float((self._frames + frames) / self._form.fps) > LONGEST_SEC
        large = self._table.stat().st_size >= TABLE_MB << 20 or any(
            video.path.stat().st_size >= VIDEO_MB << 20 for video in self._videos.values()
        )
        return longer or large

    def add(self, values: dict[str, np.ndarray], pictures: dict[str, np.ndarray]) -> dict[str, Any]:
        """Writes an episode.

        Args:
            values: Numbers by feature, those of `COUNTED` included, each (T, n) or (T,).
            pictures: (T, H, W, 3) uint8 by feature.

        Returns:
            Where it is, by the keys of `meta/episodes`.

        Raises:
            OSError: It cannot be written.
            ValueError: The pictures do not fit a video.
        """
        frames = len(values["index"])
        columns = []
        for field in self._schema:
            if field.name in pictures:
                cells = [_png(picture) for picture in pictures[field.name]]
                columns.append(self._pa.array(cells, field.type))
            else:
                columns.append(self._pa.array(values[field.name].tolist(), field.type))
        where: dict[str, Any] = {f"data/{key}": value for key, value in self.place.items()}
        where["dataset_from_index"] = int(values["index"][0])
        where["dataset_to_index"] = int(values["index"][-1]) + 1
        for name, video in self._videos.items():
            where |= {f"videos/{name}/{key}": value for key, value in self.place.items()}
            where[f"videos/{name}/from_timestamp"] = float(video.frames / self._form.fps)
            video.add(pictures[name])
            where[f"videos/{name}/to_timestamp"] = float(video.frames / self._form.fps)
        self._writer.write_table(self._pa.Table.from_arrays(columns, schema=self._schema))
        self._frames += frames
        return where

    def close(self) -> None:
        """Completes the files, and checks that they have every frame.

        Raises:
            OSError: They cannot be written, or have fewer frames.
        """
        self._writer.close()
        sync(self._table)
        sync(self._table.parent)
        rows = self._pq.read_metadata(self._table).num_rows
        if rows != self._frames:
            raise OSError(f"{self._table} has {rows} of {self._frames} rows")
        for video in self._videos.values():
            video.close()

    def abandon(self) -> None:
        """Closes the files as they are, after an error: the next attempt replaces them."""
        for close in (self._writer.close, *(video.abandon for video in self._videos.values())):
            with suppress(Exception):  # what ended the work is the error to report
                close()


def _schema(pa: Any, form: Format) -> Any:
    """Returns the schema of a table, with the description by which `datasets` shows pictures."""
    fields: list[Any] = []
    described: dict[str, Any] = {}
    own = {name: about for name, about in form.features.items() if name not in COUNTED}
    counted = {name: form.features[name] for name in COUNTED}
    pictures = {} if form.codec else dict.fromkeys(form.cameras)
    for name, about in (own | pictures | counted).items():
        if about is None:
            kind: Any = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            described[name] = {"_type": "Image"}
        else:
            value = {"dtype": about["dtype"], "_type": "Value"}
            width = about["shape"][0]
            kind = pa.from_numpy_dtype(np.dtype(about["dtype"]))
            kind = kind if width == 1 else pa.list_(kind, width)
            described[name] = (
                value if width == 1 else {"feature": value, "length": width, "_type": "List"}
            )
        fields.append(pa.field(name, kind))
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": described}})})


def _png(picture: np.ndarray) -> dict[str, Any]:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG", compress_level=1)
    return {"bytes": content.getvalue(), "path": None}

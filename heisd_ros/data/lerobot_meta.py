"""The folder `meta/` of an exported LeRobot data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heisd_ros.data.lerobot_group import CHUNK, DATA_PATH, TABLE_MB, VIDEO_MB, VIDEO_PATH, Format
from heisd_ros.data.lerobot_index import EPISODES_3, INFO, TASKS_3
from heisd_ros.data.lerobot_statistics import Statistics, of_numbers, of_pictures
from heisd_ros.data.packages import package
from heisd_ros.files.atomic import replace_text, replacing

VERSION = "v3.0"
_HERE = {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}


def write_meta(
    folder: Path,
    form: Format,
    records: Sequence[dict[str, Any]],
    sizes: dict[str, list[int]],
    tasks: Sequence[str],
    robot: str,
) -> None:
    """Writes everything that describes the tables and videos; `info.json` last.

    Args:
        folder: Of the data set, with its tables and videos.
        form: Its format.
        records: Of the groups of files: `episodes`, `counts` and `pictures`.
        sizes: Height and width of the pictures by feature.
        tasks: Instructions by task_index.
        robot: Its name.

    Raises:
        OSError: They cannot be written.
    """
    pq = package("pyarrow.parquet")
    rows = [_flat(row) for record in records for row in record["episodes"]]
    with replacing(folder / EPISODES_3 / "chunk-000/file-000.parquet") as partial:
        pq.write_table(package("pyarrow").Table.from_pylist(rows), partial, compression="snappy")
    with replacing(folder / TASKS_3) as partial:
        pq.write_table(_tasks(tasks), partial)
    statistics = _statistics(folder, form, records)
    _write_json(folder / "meta/stats.json", statistics)
    frames = sum(row["length"] for row in rows)
    _write_json(folder / INFO, _info(form, sizes, robot, len(rows), frames, len(tasks)))


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row of `meta/episodes` with its statistics as columns."""
    found = {key: value for key, value in row.items() if key != "statistics"}
    for feature, statistics in row["statistics"].items():
        found |= {f"stats/{feature}/{key}": value for key, value in statistics.items()}
    return found | _HERE


def _tasks(tasks: Sequence[str]) -> Any:
    """Makes the table of instructions, with the description by which pandas finds its index."""
    pa = package("pyarrow")
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": tasks})
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {
                "name": name,
                "field_name": name,
                "pandas_type": kind,
                "numpy_type": numpy_type,
                "metadata": None,
            }
            for name, (kind, numpy_type) in kinds.items()
        ],
    }
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def _statistics(
    folder: Path, form: Format, records: Sequence[dict[str, Any]]
) -> dict[str, Statistics]:
    """Computes the statistics of all frames: of numbers from the tables, one column at a time."""
    pq, found = package("pyarrow.parquet"), {}
    tables = sorted((folder / "data").glob("*/*.parquet"))
    for name in form.features:
        parts = [pq.read_table(table, columns=[name])[name].to_pylist() for table in tables]
        found[name] = of_numbers(np.concatenate([np.array(part) for part in parts]))
    pictures = sum(record["pictures"] for record in records)
    for name in form.cameras:
        counts = sum(np.array(record["counts"][name]) for record in records)
        found[name] = of_pictures(np.asarray(counts), pictures)
    return found


def _info(
    form: Format, sizes: dict[str, list[int]], robot: str, episodes: int, frames: int, tasks: int
) -> dict[str, Any]:
    """Returns the content of `meta/info.json`."""
    fps = float(form.fps)
    pictures: dict[str, dict[str, Any]] = {}
    for name in form.cameras:
        height, width = sizes[name]
        pictures[name] = {
            "dtype": "image" if form.codec is None else "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
        }
        if form.codec is not None:
            pictures[name]["info"] = form.codec.info(height, width, fps)
    return {
        "codebase_version": VERSION,
        "fps": int(fps) if fps == int(fps) else fps,
        "features": pictures | form.features,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK,
        "data_files_size_in_mb": TABLE_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if form.codec is not None else None,
        "robot_type": robot or None,
        "splits": {"train": f"0:{episodes}"},
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    replace_text(path, json.dumps(content, indent=4, ensure_ascii=False))

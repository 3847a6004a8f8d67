"""Writes episodes as an RLDS data set, which TensorFlow Datasets reads; TensorFlow is not needed.

The layout is what tensorflow_datasets 4.9 writes: `VERSION/features.json`, `dataset_info.json`, and
TFRecord files with an episode in each record.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from heisd_ros.data.episode import Episode
from heisd_ros.data.export_columns import COUNTED, PICTURES
from heisd_ros.data.export_run import USUAL, Choices, Exported, export
from heisd_ros.data.export_survey import Survey
from heisd_ros.data.source import Item, Source
from heisd_ros.data.tfrecord import Values, example, write_record
from heisd_ros.errors import DemonstrationError
from heisd_ros.files.atomic import replace_text, sync

ENCODINGS = ("jpeg", "png")
VERSION = "1.0.0"
_SHARD_BYTES = 100 << 20
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_KINDS = "tensorflow_datasets.core.features"
_OBSERVATION = "observation/"
_SIGNALS = {
    "is_first": "bool",
    "is_last": "bool",
    "is_terminal": "bool",
    "reward": "float32",
    "discount": "float32",
}
"""Numbers of a step in every RLDS data set."""


def export_rlds(
    sources: Sequence[Source],
    folder: Path,
    choices: Choices = USUAL,
    on_frames: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Writes all episodes of some sources as one RLDS data set; see `export_run.export`.

    The folder's name is the data set's: `tfds.builder(folder.name, data_dir=folder.parent)`.

    Raises:
        DemonstrationError: See `export`; or the pictures are not of `ENCODINGS`, or the folder's
            name is none that TensorFlow Datasets takes.
        HeisdError: A source cannot be read.
    """
    choices = replace(choices, pictures=choices.pictures or ENCODINGS[0])
    if choices.pictures not in ENCODINGS:
        raise DemonstrationError(
            f"pictures as {choices.pictures!r} are not written; accepted: {', '.join(ENCODINGS)}"
        )
    if not _NAME.fullmatch(folder.name):
        raise DemonstrationError(
            f"{folder}: TensorFlow Datasets takes no name {folder.name!r}; accepted: a small "
            "letter, then small letters, digits and _"
        )
    return export(
        sources,
        folder,
        "rlds",
        lambda found: _Writer(found, folder.name, choices.pictures),
        choices,
        on_frames,
    )


class _Writer:
    """A `Writer`: a TFRecord file for each group."""

    def __init__(self, found: Survey, name: str, encoding: str) -> None:
        self._found, self._name, self._encoding = found, name, encoding

    def open(self, folder: Path, number: int) -> None:
        """See `Writer`."""
        self._path = folder / VERSION / _part(number)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("wb")
        self._bytes = 0

    def full(self, frames: int) -> bool:
        """See `Writer`."""
        return self._bytes >= _SHARD_BYTES

    def add(
        self, item: Item, number: int, before: int, episode: Episode, pictures: dict[str, Any]
    ) -> dict[str, Any]:
        """See `Writer`."""
        steps = len(episode)
        last = np.arange(steps) == steps - 1
        signals = {
            "is_first": np.arange(steps) == 0,
            "is_last": last,
            "is_terminal": last & (episode.outcome != ""),
            "reward": last & (episode.outcome == "success"),
            "discount": np.ones(steps),
        }
        values: dict[str, Values] = {
            f"steps/{_key(name)}": array
            for name, array in self._found.columns.values(episode).items()
        }
        values |= {f"steps/{k}": signals[k].astype(kind) for k, kind in _SIGNALS.items()}
        for name, array in pictures.items():
            kind = self._encoding.upper()
            values[f"steps/{_key(name)}"] = [_encoded(picture, kind) for picture in array]
        values["steps/language_instruction"] = [episode.instruction.encode()] * steps
        values["episode_metadata/file_path"] = [item.source.label.encode()]
        values["episode_metadata/outcome"] = [episode.outcome.encode()]
        values["episode_metadata/episode"] = np.array([item.place])
        content = example(values)
        write_record(self._file, content)
        self._bytes += len(content)
        return {"length": steps}

    def close(self) -> dict[str, Any]:
        """See `Writer`."""
        self._file.close()
        sync(self._path)
        sync(self._path.parent)
        return {"bytes": self._bytes}

    def abandon(self) -> None:
        """See `Writer`."""
        with suppress(OSError):  # what ended the work is the error to report
            self._file.close()

    def finish(
        self, folder: Path, records: list[dict[str, Any]], sizes: dict[str, list[int]]
    ) -> None:
        """See `Writer`."""
        place = folder / VERSION
        for number in range(len(records)):
            final = place / f"{self._name}-train.tfrecord-{number:05d}-of-{len(records):05d}"
            if not final.exists():
                os.rename(place / _part(number), final)
        info = {
            "name": self._name,
            "version": VERSION,
            "fileFormat": "tfrecord",
            "moduleName": "heisd_ros.data.rlds_export",
            "description": "Episodes exported by heisd_ros.",
            "splits": [
                {
                    "name": "train",
                    "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                    "numBytes": str(sum(record["bytes"] for record in records)),
                    "shardLengths": [str(len(record["episodes"])) for record in records],
                }
            ],
        }
        _write_json(place / "features.json", self._features(sizes))
        _write_json(place / "dataset_info.json", info)

    def _features(self, sizes: dict[str, list[int]]) -> dict[str, Any]:
        """Describes an episode by classes of tensorflow_datasets."""
        columns = self._found.columns.features()
        step = {
            _key(name): _tensor(about["dtype"], about["shape"] if about["names"] else [])
            for name, about in columns.items()
            if name not in COUNTED
        }
        step |= {name: _tensor(kind, []) for name, kind in _SIGNALS.items()}
        for name, size in sizes.items():
            shape = {"dimensions": [str(number) for number in (*size, 3)]}
            image = {"dtype": "uint8", "encodingFormat": self._encoding, "shape": shape}
            step[_key(name)] = {"pythonClassName": f"{_KINDS}.image_feature.Image", "image": image}
        step["language_instruction"] = _text()
        observed = {name: about for name, about in step.items() if name.startswith(_OBSERVATION)}
        nested = {name: about for name, about in step.items() if name not in observed}
        nested["observation"] = _mapping(
            {name.removeprefix(_OBSERVATION): about for name, about in observed.items()}
        )
        metadata = {"file_path": _text(), "outcome": _text(), "episode": _tensor("int64", [])}
        return _mapping(
            {
                "steps": {
                    "pythonClassName": f"{_KINDS}.dataset_feature.Dataset",
                    "sequence": {"feature": _mapping(nested), "length": "-1"},
                },
                "episode_metadata": _mapping(metadata),
            }
        )


def _part(number: int) -> str:
    return f"part-{number:05d}"


def _key(name: str) -> str:
    """Returns the name within a step of a feature that `Columns` or `Survey.cameras` names."""
    return name.replace(PICTURES, _OBSERVATION).replace("observation.", _OBSERVATION)


def _mapping(features: dict[str, Any]) -> dict[str, Any]:
    return {
        "pythonClassName": f"{_KINDS}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def _tensor(dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    dimensions = {"dimensions": [str(number) for number in shape]} if shape else {}
    kind = "tensor_feature.Tensor" if shape else "scalar.Scalar"
    return {
        "pythonClassName": f"{_KINDS}.{kind}",
        "tensor": {"dtype": dtype, "encoding": "none", "shape": dimensions},
    }


def _text() -> dict[str, Any]:
    return {"pythonClassName": f"{_KINDS}.text_feature.Text", "text": {}}


def _encoded(picture: np.ndarray, kind: str) -> bytes:
    content = io.BytesIO()
    options = {"compress_level": 1} if kind == "PNG" else {"quality": 95, "subsampling": 0}
    Image.fromarray(picture).save(content, kind, **options)
    return content.getvalue()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    replace_text(path, json.dumps(content, indent=4))

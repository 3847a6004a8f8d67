"""Reference outputs of an implementation: ``reference.json``, ``reference.npz`` and pictures."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from heisd_ros.errors import ReferenceDataError
from heisd_ros.files.bounded import read_object

_JSON, _ARRAYS = "reference.json", "reference.npz"
_SEPARATOR = re.compile("__|/")
"""Between a case's name and what an array of it is called."""


@dataclass(frozen=True)
class ReferenceCase:
    """One picture and sentence with their outputs, any of which may be absent.

    Attributes:
        name: what its arrays' names begin with.
        image: RGB uint8 [H, W, 3].
        fields: the case in ``reference.json``.
        arrays: of ``reference.npz``, without the beginning.
        pictures: RGB uint8 [H, W, 3] by the camera, where a case has several.
    """

    name: str
    image: NDArray[np.uint8]
    fields: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    pictures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    def instruction(self, template: str) -> str:
        """The sentence: as it stands, or out of the prompt.

        Args:
            template: the model's prompt with ``{instruction}``.

        Raises:
            ReferenceDataError: there is neither.
        """
        if isinstance(self.fields.get("instruction"), str):
            return str(self.fields["instruction"])
        before, after = (re.escape(part) for part in template.split("{instruction}"))
        match = re.fullmatch(f"{before}(.*){after}", str(self.fields.get("prompt", "")), re.DOTALL)
        if match is None:
            raise ReferenceDataError(f"case {self.name!r} has no instruction, and no such prompt")
        return match[1]


@dataclass(frozen=True)
class Reference:
    """A folder of reference outputs.

    Attributes:
        cases: in the order of the file.
        shared: arrays that belong to no case.
        content: all of ``reference.json``.
    """

    cases: tuple[ReferenceCase, ...]
    shared: Mapping[str, NDArray[Any]]
    content: Mapping[str, Any]

    @property
    def orphans(self) -> tuple[str, ...]:
        """Names of the arrays that belong to no case."""
        return tuple(sorted(self.shared))

    @classmethod
    def load(cls, folder: str | Path) -> Reference:
        """Reads a folder in the layout of ``test/data/openvla_reference``.

        Raises:
            ReferenceDataError: naming the file and what is wrong with it.
        """
        folder = Path(folder)
        content, listed = _read_cases(folder / _JSON)
        arrays = _read_arrays(folder / _ARRAYS)
        cases = []
        for fields in listed:
            name = fields["name"]
            # Of two cases whose names begin alike the longer one has the array.
            owned = {key for key in arrays if _owner(key, listed) == name}
            own = {_SEPARATOR.split(key[len(name) :], 1)[1]: arrays[key] for key in owned}
            pictures = _read_pictures(folder, content, fields)
            cases.append(ReferenceCase(name, next(iter(pictures.values())), fields, own, pictures))
        shared = {key: array for key, array in arrays.items() if _owner(key, listed) is None}
        return cls(tuple(cases), shared, content)


def _owner(key: str, listed: list[dict[str, Any]]) -> str | None:
    names = [
        fields["name"]
        for fields in listed
        if key.startswith(fields["name"]) and _SEPARATOR.match(key[len(fields["name"]) :])
    ]
    return max(names, key=len, default=None)


def _read_cases(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    content = read_object(path, ReferenceDataError)
    cases = content.get("cases")
    if not isinstance(cases, list) or not cases:
        raise ReferenceDataError(f"{path} has no list of cases")
    for case in cases:
        if not isinstance(case, dict) or not isinstance(case.get("name"), str):
            raise ReferenceDataError(f"{path}: a case has no name: {str(case)[:80]}")
    names = [case["name"] for case in cases]
    if len(set(names)) < len(names):
        raise ReferenceDataError(f"{path}: the names {names} must differ")
    return content, cases


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise ReferenceDataError(f"{path} is missing or no archive of arrays: {error}") from error


def _read_pictures(
    folder: Path, content: Mapping[str, Any], case: Mapping[str, Any]
) -> dict[str, NDArray[np.uint8]]:
    """A case's pictures by the camera; its only one by ``image``."""
    named = {"image": case.get("image")}
    if isinstance(case.get("cameras"), dict) and isinstance(content.get("images"), dict):
        named = {
            camera: content["images"].get(name, {}).get("file")
            for camera, name in case["cameras"].items()
        }
    if not named or not all(isinstance(name, str) for name in named.values()):
        raise ReferenceDataError(f"case {case['name']!r} names no image")
    return {camera: _read_image(folder / str(name)) for camera, name in named.items()}


def _read_image(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise ReferenceDataError(f"{path} is missing or no picture: {error}") from error

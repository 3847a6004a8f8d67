"""Reference outputs of an implementation: ``reference.json``, ``reference.npz`` and pictures."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from heisd_ros.errors import ReferenceDataError
from heisd_ros.files.bounded import read_object

_JSON, _ARRAYS = "reference.json", "reference.npz"


@dataclass(frozen=True)
class ReferenceCase:
    """One picture and sentence with their outputs, any of which may be absent.

    Attributes:
        name: what its arrays' names begin with.
        image: RGB uint8 [H, W, 3].
        fields: the case in ``reference.json``.
        arrays: of ``reference.npz``, without the beginning.
    """

    name: str
    image: NDArray[np.uint8]
    fields: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

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
        orphans: arrays that belong to no case.
    """

    cases: tuple[ReferenceCase, ...]
    orphans: tuple[str, ...]

    @classmethod
    def load(cls, folder: str | Path) -> Reference:
        """Reads a folder in the layout of ``test/data/openvla_reference``.

        Raises:
            ReferenceDataError: naming the file and what is wrong with it.
        """
        folder = Path(folder)
        listed = _read_cases(folder / _JSON)
        arrays = _read_arrays(folder / _ARRAYS)
        cases = []
        for fields in listed:
            name = fields["name"]
            # Of two cases whose names begin alike the longer one has the array.
            owned = {key for key in arrays if _owner(key, listed) == name}
            own = {key.removeprefix(f"{name}__"): arrays[key] for key in owned}
            cases.append(ReferenceCase(name, _read_image(folder, fields), fields, own))
        orphans = tuple(sorted(key for key in arrays if _owner(key, listed) is None))
        return cls(tuple(cases), orphans)


def _owner(key: str, listed: list[dict[str, Any]]) -> str | None:
    names = [fields["name"] for fields in listed if key.startswith(f"{fields['name']}__")]
    return max(names, key=len, default=None)


def _read_cases(path: Path) -> list[dict[str, Any]]:
    cases = read_object(path, ReferenceDataError).get("cases")
    if not isinstance(cases, list) or not cases:
        raise ReferenceDataError(f"{path} has no list of cases")
    for case in cases:
        if not isinstance(case, dict) or not isinstance(case.get("name"), str):
            raise ReferenceDataError(f"{path}: a case has no name: {str(case)[:80]}")
    names = [case["name"] for case in cases]
    if len(set(names)) < len(names):
        raise ReferenceDataError(f"{path}: the names {names} must differ")
    return cases


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise ReferenceDataError(f"{path} is missing or no archive of arrays: {error}") from error


def _read_image(folder: Path, case: Mapping[str, Any]) -> NDArray[np.uint8]:
    if not isinstance(case.get("image"), str):
        raise ReferenceDataError(f"case {case['name']!r} names no image")
    path = folder / case["image"]
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise ReferenceDataError(f"{path} is missing or no picture: {error}") from error

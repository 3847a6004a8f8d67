"""The map from roles to features of a LeRobot data set, and its columns."""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from heisd_ros.data.text_files import one_line, read_yaml
from heisd_ros.errors import DemonstrationError

_COLUMN = re.compile(r"([^\[\]]+)(?:\[(\d+):(\d+)\])?")


@dataclass(frozen=True)
class FeatureMap:
    """Maps roles to the features of a data set.

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
        landmarks: Column of `Episode.landmarks`; empty: none.
        person: Column of booleans, or of 0 and 1: whether a person had the arm, which LeRobot's
            recorder calls `intervention`; empty: unknown.
    """

    joint_positions: str
    actions: str = "action"
    gripper_opening: str = ""
    joint_velocities: str = ""
    images: tuple[str, ...] = field(default=())
    robot: str = ""
    landmarks: str = ""
    person: str = ""

    @classmethod
    def read(cls, path: Path) -> FeatureMap:
        """Reads a YAML file with these attributes as keys.

        Raises:
            DemonstrationError: It cannot be read, or has another key or kind of value.
        """
        try:
            values = read_yaml(path)
        except (OSError, ValueError) as error:
            raise DemonstrationError(f"{path}: {one_line(error)}") from error
        return cls.of(values, path)

    @classmethod
    def of(cls, values: object, path: Path) -> FeatureMap:
        """Makes a map of a mapping with these attributes as keys.

        Args:
            values: The mapping.
            path: Where it stands, for the message.

        Raises:
            DemonstrationError: It has another key or kind of value.
        """
        accepted = list(cls.__dataclass_fields__)
        if not isinstance(values, dict) or "joint_positions" not in values:
            raise DemonstrationError(
                f"{path} is {reprlib.repr(values)}; accepted: a mapping of {accepted}"
            )
        for key, value in values.items():
            listed = value if key == "images" and isinstance(value, list) else [value]
            if key not in accepted or not all(isinstance(text, str) for text in listed):
                raise DemonstrationError(
                    f"{path}: {reprlib.repr(key)} is {reprlib.repr(value)}; accepted: texts by "
                    f"{accepted}"
                )
        images = values.get("images", [])
        texts = {key: value for key, value in values.items() if key != "images"}
        return cls(**texts, images=tuple([images] if isinstance(images, str) else images))


def feature_of(column: str) -> str:
    """Returns the feature that a column belongs to."""
    match = _COLUMN.fullmatch(column)
    return column if match is None else match[1]


class Columns:
    """Columns (T, n) of a table, by the names that a feature map has for them."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __call__(self, text: str) -> np.ndarray:
        """Returns the numbers (T, n) of a column.

        Raises:
            ValueError: The table has no such feature, or the feature not so many numbers.
        """
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

"""The features of an exported data set: names, shapes, and an episode's numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heisd_ros.data.episode import Episode
from heisd_ros.data.lerobot_features import FeatureMap
from heisd_ros.errors import DemonstrationError

PICTURES = "observation.images."
OPTIONAL = {
    "joint_velocities": "observation.velocity",
    "landmarks": "landmarks",
    "person": "intervention",
}
"""Feature by field of an `Episode`, of the fields that it need not have. LeRobot's own recorder
names `intervention` so."""
_ACTION = ("x", "y", "z", "rx", "ry", "rz", "gripper")
_LANDMARKS = ("item.x", "item.y", "item.z", "target.x", "target.y", "target.z")
COUNTED = {
    "timestamp": np.float32,
    "frame_index": np.int64,
    "episode_index": np.int64,
    "index": np.int64,
    "task_index": np.int64,
}
"""Features that every data set has, behind its own."""


@dataclass(frozen=True)
class Columns:
    """The numeric features of a data set.

    Attributes:
        joints: Names of the arm's joints, base to tip.
        optional: Which fields of `OPTIONAL` the episodes have.
    """

    joints: tuple[str, ...]
    optional: tuple[str, ...]

    @classmethod
    def of(cls, episode: Episode, joints: Sequence[str], left_out: Collection[str]) -> Columns:
        """Returns the columns that an episode has, without the fields that are to be left out."""
        there = (name for name in OPTIONAL if getattr(episode, name) is not None)
        return cls(tuple(joints), tuple(name for name in there if name not in left_out))

    def features(self) -> dict[str, dict[str, Any]]:
        """Describes the columns as `meta/info.json` does, those of `COUNTED` included."""
        names: dict[str, tuple[str, ...] | None] = {
            "observation.state": (*self.joints, "gripper_opening")
        }
        accepted = {"joint_velocities": self.joints, "landmarks": _LANDMARKS, "person": None}
        names |= {OPTIONAL[field]: accepted[field] for field in self.optional}
        names["action"] = _ACTION
        own = {
            name: {
                "dtype": "bool" if labels is None else "float32",
                "shape": [1 if labels is None else len(labels)],
                "names": None if labels is None else list(labels),
            }
            for name, labels in names.items()
        }
        counted = {
            name: {"dtype": np.dtype(kind).name, "shape": [1], "names": None}
            for name, kind in COUNTED.items()
        }
        return own | counted

    def values(self, episode: Episode) -> dict[str, np.ndarray]:
        """Returns an episode's numbers by feature, (T, n) float32 or (T,) bool.

        Raises:
            ValueError: A number is not finite.
        """
        state = np.column_stack([episode.joint_positions, episode.gripper_opening])
        values = {"observation.state": state}
        values |= {OPTIONAL[field]: getattr(episode, field) for field in self.optional}
        values["action"] = episode.actions
        for name, array in values.items():
            kind = bool if name == OPTIONAL["person"] else np.float32
            with np.errstate(over="ignore"):
                values[name] = np.asarray(array).astype(kind)
            if not np.isfinite(values[name]).all():
                raise ValueError(f"{name} is not finite in 32 bits; accepted: finite numbers")
        return values

    def feature_map(self, cameras: Sequence[str], robot: str) -> FeatureMap:
        """Returns the map by which our reader finds everything again."""
        joints = len(self.joints)
        found = {field: OPTIONAL[field] for field in self.optional}
        return FeatureMap(
            joint_positions=f"observation.state[0:{joints}]",
            gripper_opening=f"observation.state[{joints}:{joints + 1}]",
            images=tuple(cameras),
            robot=robot,
            **found,
        )


def camera_features(cameras: Sequence[str]) -> list[str]:
    """Names the features of a source's pictures; LeRobot allows no slash in them.

    A topic such as `/wrist_camera/image_raw` becomes `observation.images.wrist_camera`.

    Raises:
        DemonstrationError: Two cameras get the same name.
    """
    short = [_plain(re.sub(r"/(image_\w+|image|compressed)(?=/|$)", "", name)) for name in cameras]
    if len(set(short)) < len(short) or not all(short):
        short = [_plain(name) for name in cameras]
    if len(set(short)) < len(short) or not all(short):
        raise DemonstrationError(
            f"cameras {list(cameras)} would have the names {short}; accepted: names that differ in "
            "letters and digits"
        )
    return [PICTURES + name for name in short]


def _plain(name: str) -> str:
    name = name.removeprefix(PICTURES).removeprefix("observation.")
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")

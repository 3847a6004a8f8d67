"""What a database says about itself: ``manifest.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field

from heisd_ros.errors import DatabaseError
from heisd_ros.files.bounded import read_object, shown
from heisd_ros.files.typed import typed, within
from heisd_ros.kinematics.metric import MetricBounds

FORMAT = 2
"""Version of the on-disk format. `convert.convert_database` brings folders of format 1 to it."""
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class FeatureLayout:
    """How a key is composed and stored.

    Attributes:
        views: camera views, in order.
        towers: channels of each vision tower, in order.
        size: numbers in a key: every tower of every view.
        kept: principal coordinates that candidates are found by.
    """

    views: tuple[str, ...]
    towers: tuple[int, ...]
    size: int
    kept: int


@dataclass(frozen=True)
class Fidelity:
    """How well stored keys stand for full ones, on frames that the projection was not fitted to.

    Attributes:
        queries: frames measured; 0: no task had an episode to spare.
        recall: share of them whose best entry is the best by full keys too.
        similarity_error: 99th percentile of the error of the best entry's similarity.
    """

    queries: int = 0
    recall: float | None = None
    similarity_error: float | None = None


@dataclass(frozen=True)
class ShardInfo:
    """One task's part.

    Attributes:
        instruction: the task, as its demonstrations word it.
        folder: where its arrays are, relative to the database.
        entries: number of frames.
        episodes: number of episodes that they come from.
        graph: whether it is searched through a graph instead of exhaustively.
    """

    instruction: str
    folder: str
    entries: Annotated[int, within(0)]
    episodes: Annotated[int, within(0)]
    graph: bool = False


@dataclass(frozen=True)
class Manifest:
    """What a database says about itself.

    Attributes:
        model_fingerprint: `vla.checkpoint.fingerprint` of the model whose features and tokens it
            holds.
        statistics_key: name of the action statistics in use when its tokens were made.
        robot: the arm that demonstrated.
        control_rate_hz: control rate of the demonstrations, Hz.
        features: how a key is composed.
        bounds: scale and boundary of the kinematic metric, by kind; empty where demonstrations have
            no joint velocities.
        fidelity: what storing keys in less room costs.
        provenance: what it was built from, for a reader.
        shards: one for each task.
        files: sha256 of each other file, by path relative to the database.
        created: time of writing, ISO 8601, UTC.
        database_id: what calibrations and results are bound to: the checksum of what was first
            written. A conversion to another format, which changes no search, keeps it.
        checksum: `digest` of what is written now.
        format: version of the format.
    """

    model_fingerprint: str
    statistics_key: str
    robot: str
    control_rate_hz: Annotated[float, Field(gt=0)]
    features: FeatureLayout
    bounds: dict[str, MetricBounds] = field(default_factory=dict)
    fidelity: Fidelity = Fidelity()
    provenance: dict[str, Any] = field(default_factory=dict)
    shards: tuple[ShardInfo, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    created: str = ""
    database_id: str = ""
    checksum: str = ""
    format: int = FORMAT

    @property
    def entries(self) -> int:
        """Frames in all shards."""
        return sum(shard.entries for shard in self.shards)

    def sealed(self) -> Manifest:
        """With its checksum, and an id where it has none."""
        named = replace(self, database_id=self.database_id or digest(asdict(self)))
        return replace(named, checksum=digest(asdict(named)))

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads and checks the manifest of a database.

        Raises:
            DatabaseError: there is none, it is damaged, or it is of another format.
        """
        path = folder / MANIFEST
        if not path.exists():
            raise DatabaseError(
                f"{folder} holds no database ({MANIFEST} is missing); `heisd db build` makes one"
            )
        values = read_object(path, damaged)
        if "format" in values and values["format"] != FORMAT:
            remedy = "run `heisd db convert FOLDER`"
            if values["format"] != 1:
                remedy = "build it again with `heisd db build`"
            raise DatabaseError(
                f"{folder} has format {shown(values['format'])}, this version reads {FORMAT}; "
                f"{remedy}"
            )
        return cls.checked(folder, values)

    @classmethod
    def checked(cls, folder: Path, values: dict[str, Any]) -> Manifest:
        """Checks the values of a manifest.

        Args:
            folder: the database.
            values: of this format.

        Raises:
            DatabaseError: a value is not one that a manifest has, or the checksum is another.
        """
        path = folder / MANIFEST
        try:
            manifest = _from_dict(values)
        except ValueError as error:
            raise damaged(f"{path} is damaged: {error}") from error
        named = (*manifest.files, *(shard.folder for shard in manifest.shards))
        if outside := [name for name in named if _leaves(name)]:
            raise DatabaseError(
                f"{path} names {shown(outside)}; accepted: paths within the database"
            )
        if manifest.checksum != digest(values):
            raise damaged(f"{path} was changed after it was written")
        return manifest


def digest(values: Mapping[str, Any], blank: tuple[str, ...] = ("created", "checksum")) -> str:
    """sha256 over a manifest's values, and so over every file.

    Args:
        values: as they are in the file.
        blank: keys whose values do not count.
    """
    content = {**values, **dict.fromkeys(blank, "")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def damaged(problem: str) -> DatabaseError:
    """The error of a database that is no longer what was written."""
    return DatabaseError(
        f"{problem}; copy the database again, or build it again with `heisd db build`"
    )


def _leaves(name: str) -> bool:
    """Whether a path leads out of the folder that it is relative to."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _from_dict(values: Any) -> Manifest:
    missing = [entry.name for entry in fields(Manifest) if entry.name not in values]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    manifest: Manifest = typed(Manifest, values)
    features = manifest.features
    if not 0 <= features.kept <= features.size:
        raise ValueError(f"features.kept is {features.kept}; accepted: 0 to {features.size}")
    tasks = [" ".join(shard.instruction.lower().split()) for shard in manifest.shards]
    if len(set(tasks)) < len(tasks):
        raise ValueError("two shards are of one instruction; accepted: one of each")
    return manifest

"""The manifest of a database, ``manifest.json``."""

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
from heisd_ros.retrieval.entries import AnswerSize

FORMAT = 2
"""Version of the on-disk format. `convert.convert_database` converts folders of format 1."""
MANIFEST = "manifest.json"
UNNAMED_ANSWER = AnswerSize(tokens=7, numbers=7)
"""Size of answers in databases that do not name it: one action of an end effector."""


@dataclass(frozen=True)
class FeatureLayout:
    """How a key is composed and stored.

    Attributes:
        views: camera views, in order.
        towers: channels of each vision tower, in order.
        size: numbers in a key: every tower of every view.
        kept: number of principal coordinates that candidates are found by.
    """

    views: tuple[str, ...]
    towers: tuple[int, ...]
    size: int
    kept: int


@dataclass(frozen=True)
class Fidelity:
    """How well stored keys represent full ones, on frames that the projection was not fitted to.

    Attributes:
        queries: frames measured; 0: no task had an episode to spare.
        recall: share of them whose best entry is also the best by full keys.
        similarity_error: 99th percentile of the error of the best entry's similarity.
    """

    queries: int = 0
    recall: float | None = None
    similarity_error: float | None = None


@dataclass(frozen=True)
class ShardInfo:
    """The manifest's record of one task's shard.

    Attributes:
        instruction: the task, as its demonstrations word it.
        folder: folder of its arrays, relative to the database.
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
    """The content of ``manifest.json``.

    Attributes:
        model_fingerprint: `vla.checkpoint.fingerprint` of the model whose features and tokens it
            holds.
        statistics_key: name of the action statistics in use when its tokens were made.
        robot: the arm of the demonstrations.
        control_rate_hz: control rate of the demonstrations, Hz.
        features: how a key is composed.
        bounds: scale and boundary of the kinematic metric, by kind; empty where demonstrations have
            no joint velocities.
        fidelity: what the compression of keys costs.
        provenance: what it was built from, in words.
        answer: the size of the answers that entries hold.
        shards: one for each task.
        files: sha256 of each other file, by path relative to the database.
        created: time of writing, ISO 8601, UTC.
        database_id: id that calibrations and results are bound to: the checksum when it was first
            written. A conversion to another format, which changes no search, keeps it.
        checksum: `digest` of the present content.
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
    answer: AnswerSize = UNNAMED_ANSWER
    shards: tuple[ShardInfo, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    created: str = ""
    database_id: str = ""
    checksum: str = ""
    format: int = FORMAT

    @property
    def entries(self) -> int:
        """Number of frames in all shards."""
        return sum(shard.entries for shard in self.shards)

    def sealed(self) -> Manifest:
        """Returns a copy with its checksum, and with an id if it has none."""
        named = replace(self, database_id=self.database_id or digest(asdict(self)))
        return replace(named, checksum=digest(asdict(named)))

    def to_json(self) -> str:
        """Returns the text of ``manifest.json``."""
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
            values: values of the current format.

        Raises:
            DatabaseError: a value is not accepted, or the checksum differs.
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
    """Returns the SHA-256 over a manifest's values, and so over every file.

    Args:
        values: as they are in the file.
        blank: keys whose values are left out.
    """
    content = {**values, **dict.fromkeys(blank, "")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def damaged(problem: str) -> DatabaseError:
    """Makes the error for a database that has changed since it was written."""
    return DatabaseError(
        f"{problem}; copy the database again, or build it again with `heisd db build`"
    )


def _leaves(name: str) -> bool:
    """Whether a path leads out of the folder that it is relative to."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _from_dict(values: Any) -> Manifest:
    known = {entry.name for entry in fields(Manifest)} - {"answer"}
    missing = [name for name in sorted(known) if name not in values]
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

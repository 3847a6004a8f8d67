"""The one place where decoders are assembled from a model, a mode, and what the mode needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.boundary import Boundary
from heisd_ros.decoding.calibration import FILE, Calibration
from heisd_ros.decoding.hybrid import HybridDecoder
from heisd_ros.decoding.proposers import proposers_of
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.skip import SkipGate
from heisd_ros.decoding.types import Decoder
from heisd_ros.errors import DatabaseError, ModeError
from heisd_ros.files.bounded import expanded
from heisd_ros.kinematics.metric import MetricBounds
from heisd_ros.retrieval.database import Database, Store, file_hash
from heisd_ros.vla.action_codec import ActionCodec
from heisd_ros.vla.checkpoint_files import fingerprint
from heisd_ros.vla.drafter import WEIGHTS, Drafter, load_drafter
from heisd_ros.vla.token_model import TokenModel

Extend = Callable[[Database, Calibration | None], Store]
"""Makes the store to search from a database and the calibration in force."""


class Assembly:
    """Makes the decoders of one model; what several modes share is opened once, on first use.

    Args:
        model: folder of the checkpoint.
        database: folder of the database; empty: ``database`` in the checkpoint's folder.
        drafter: folder of the drafter; empty: ``drafter`` there.
        robot: as in `Database.open`.
    """

    def __init__(
        self,
        model: str | Path,
        database: str = "",
        drafter: str = "",
        robot: str | None = None,
    ) -> None:
        self._folder, self._robot = Path(model), robot
        self._database_folder = expanded(database) if database else self._folder / "database"
        self._drafter_folder = expanded(drafter) if drafter else self._folder / "drafter"
        self._drafter: tuple[TokenModel, Drafter] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """The model's fingerprint; raises CheckpointError if the checkpoint is missing."""
        return fingerprint(self._folder)

    @cached_property
    def database(self) -> Database:
        """The database; raises DatabaseError if it is missing, damaged or of another model."""
        return Database.open(self._database_folder, self.fingerprint, self._robot)

    @cached_property
    def _calibration(self) -> Calibration | None:
        # Without a calibration a mode does not skip and says why; one of another database is an
        # error.
        if not (self.database.folder / FILE).is_file():
            return None
        identity = self.database.manifest.database_id
        return Calibration.load(self.database.folder, identity, self.fingerprint)

    def calibration(self, mode: ModeSettings) -> Calibration | None:
        """Returns the calibration that a mode skips by; None if it uses none, or none was made.

        Raises:
            CalibrationError: it is damaged, or older than the database.
        """
        return self._calibration if uses_calibration(mode) else None

    def bounds(self, mode: ModeSettings) -> MetricBounds | None:
        """Returns the scale of the metric that a mode reads from `Observation.motion`, or None.

        Raises:
            DatabaseError: the database has none of the mode's metric.
        """
        return self.database.bounds(mode.boundary.metric) if mode.propose == "hybrid" else None

    def drafter_hash(self, mode: ModeSettings) -> str | None:
        """Returns the SHA-256 of the drafter's weights; None if the mode uses no drafter."""
        weights = self._drafter_folder / WEIGHTS
        return file_hash(weights) if mode.drafts and weights.is_file() else None

    def check(self, mode: ModeSettings) -> None:
        """Opens what a mode needs besides the drafter, before the model is loaded.

        Raises:
            DatabaseError, CalibrationError: a part is missing, damaged, or does not fit the mode.
        """
        if mode.retrieves:
            self.database.check_k(mode.retrieval.k)
            _check(mode, self.calibration(mode))

    def decoder(
        self,
        vla: TokenModel,
        mode: ModeSettings,
        *,
        calibration: Calibration | None = None,
        seed: int = 0,
        extend: Extend | None = None,
        keep_frames: bool = False,
    ) -> Decoder:
        """Builds the decoder of a mode.

        Args:
            vla: the model.
            mode: the mode.
            calibration: used instead of the one in the database's folder.
            seed: as in `build_decoder`.
            extend: makes the store to search; None: the database itself is searched.
            keep_frames: as in `build_decoder`.

        Raises:
            DatabaseError, CalibrationError, DrafterError: a part is missing or does not fit.
        """
        store: Store | None = None
        if mode.retrieves:
            self.database.check_k(mode.retrieval.k)
            _check_answers(self.database, vla.codec)
            calibration = calibration or self.calibration(mode)
            store = self.database if extend is None else extend(self.database, calibration)
        return build_decoder(
            vla,
            mode,
            database=store,
            drafter=self._load_drafter(vla) if mode.drafts else None,
            calibration=calibration,
            seed=seed,
            keep_frames=keep_frames,
        )

    def _load_drafter(self, vla: TokenModel) -> Drafter:
        if self._drafter is None or self._drafter[0] is not vla:
            loaded = load_drafter(self._drafter_folder, self.fingerprint, vla)
            self._drafter = vla, loaded
        return self._drafter[1]


def uses_calibration(mode: ModeSettings) -> bool:
    """Whether the calibration of the database decides what a mode skips."""
    by_rate = mode.skip.policy in ("random", "hold") and mode.skip.rate == 0.0
    return mode.skip.policy == "calibrated" or by_rate


def build_decoder(
    vla: TokenModel,
    mode: ModeSettings,
    *,
    database: Store | None = None,
    drafter: Drafter | None = None,
    calibration: Calibration | None = None,
    seed: int = 0,
    allow_unknown: bool = False,
    keep_frames: bool = False,
) -> Decoder:
    """Builds the decoder of a mode from parts that are already open.

    Args:
        vla: the model.
        mode: the mode.
        database: needed by modes that retrieve.
        drafter: needed by modes that draft.
        calibration: of the database; without one a calibrated mode does not skip, and says so.
        seed: seed of random skips and shadow verification.
        allow_unknown: accept instructions that the model was not trained on.
        keep_frames: return with each verified step what may be kept of it (`StepResult.frame`).

    Raises:
        EngineError: the mode's engine cannot run here.
        ModeError: the mode needs a part that was not given, or its retrieval zone has no exit.
        CalibrationError: the calibration was made with other settings than the mode's.
    """
    if mode.engine != "auto":
        vla = vla.with_engine(mode.engine)
    if mode.propose == "none":
        return AutoregressiveDecoder(vla, allow_unknown=allow_unknown)
    if mode.retrieves and database is None:
        raise ModeError("the mode needs a database (`heisd db build` makes one); none was given")
    if mode.drafts and drafter is None:
        raise ModeError(
            "the mode needs a drafter (`heisd train drafter` makes one); none was given"
        )
    _check(mode, calibration)
    boundary = None
    if mode.propose == "hybrid" and database is not None:
        bounds = database.bounds(mode.boundary.metric)
        boundary = Boundary(bounds.boundary, mode.boundary.hysteresis)
    return HybridDecoder(
        vla,
        mode,
        database=database,
        proposers=proposers_of(mode, vla, drafter),
        gate=SkipGate(mode.skip, calibration, seed, vla.codec.groups),
        boundary=boundary,
        allow_unknown=allow_unknown,
        keep_frames=keep_frames,
    )


def _check_answers(database: Database, codec: ActionCodec) -> None:
    """Raises DatabaseError if a model's answers do not fit the entries of a database."""
    held, numbers = database.manifest.answer, codec.horizon * codec.dimensions
    fits = held.tokens == codec.max_tokens if codec.counted else held.tokens <= codec.max_tokens
    if not fits or held.numbers != numbers:
        most = "" if codec.counted else "up to "
        raise DatabaseError(
            f"{database.folder}: an entry holds {held.tokens} tokens and {held.numbers} numbers of "
            f"an action; answers of this model have {most}{codec.max_tokens} and {numbers}"
        )


def _check(mode: ModeSettings, calibration: Calibration | None) -> None:
    if calibration is not None and mode.skip.policy == "calibrated":
        calibration.check_mode(mode)

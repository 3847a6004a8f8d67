"""The one place where decoders are assembled from a model, a mode, and what the mode needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.boundary import Boundary
from heisd_ros.decoding.calibrated_path import FILE, CalibratedPath
from heisd_ros.decoding.calibration import Calibration
from heisd_ros.decoding.chooser import Chooser
from heisd_ros.decoding.hybrid import HybridDecoder
from heisd_ros.decoding.predictor import FIX as FIX_PREDICTOR
from heisd_ros.decoding.predictor import Predictor
from heisd_ros.decoding.proposers import proposers_of
from heisd_ros.decoding.reasoning_calibration import ReasoningCalibration
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.skip import SkipGate
from heisd_ros.decoding.types import Decoder
from heisd_ros.errors import DatabaseError, ModeError
from heisd_ros.files.bounded import expanded
from heisd_ros.kinematics.bounds_file import load_bounds
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
        bounds: file of the metric's bounds for modes without a database; see `load_bounds`.
    """

    def __init__(
        self,
        model: str | Path,
        database: str = "",
        drafter: str = "",
        robot: str | None = None,
        bounds: str = "",
    ) -> None:
        self._folder, self._robot, self._bounds = Path(model), robot, bounds
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

    def calibration(self, mode: ModeSettings) -> CalibratedPath | None:
        """Returns what a mode skips or keeps reasonings by; None if it uses none, or none was made.

        Raises:
            CalibrationError: it is damaged, or older than the database or the model.
        """
        if uses_calibration(mode):
            return self._calibration
        return self._keeping(mode) if keeps_by_calibration(mode) else None

    def _keeping(self, mode: ModeSettings) -> ReasoningCalibration | None:
        """Returns the calibration of a mode's reasonings; that of another mode is none."""
        if not (self._folder / FILE).is_file():
            return None
        found = ReasoningCalibration.load(self._folder, self.fingerprint)
        return found if found.fits(mode, self.bounds(mode)) else None

    def predictor(self, mode: ModeSettings) -> Predictor | None:
        """Returns the predictor by which a mode chooses; None if it uses none.

        Raises:
            PredictorError: it is missing, damaged, or of other parts or settings.
        """
        if not mode.predicted:
            return None
        found, identity = Predictor.load(self.database.folder), self.database.manifest.database_id
        found.check(identity, self.fingerprint, self.drafter_hash(mode), mode)
        return found

    def bounds(self, mode: ModeSettings) -> MetricBounds | None:
        """Returns the scale of the metric that a mode reads from `Observation.motion`, or None.

        Raises:
            DatabaseError: the database has none of the mode's metric.
            ModeError: the file of the bounds cannot be used.
        """
        if not mode.measures:
            return None
        kind = mode.boundary.metric
        if mode.retrieves:
            return self.database.bounds(kind)
        try:
            return load_bounds(kind, self._bounds, self._folder)[0]
        except ValueError as error:
            raise ModeError(f"boundary.metric {kind!r} has no bounds: {error}") from error

    def boundary(self, mode: ModeSettings) -> float | None:
        """Returns the boundary of the metric by which a mode decides; None if it has none.

        Raises:
            HeisdError: as `bounds` and `calibration`.
        """
        bounds = self.bounds(mode)
        if bounds is None or (mode.predicted and mode.reasoning.keep != "motion"):
            return None
        found = self.calibration(mode)
        if isinstance(found, ReasoningCalibration) and found.boundary and found.chosen is not None:
            return found.boundary[found.chosen]
        return bounds.boundary

    def drafter_hash(self, mode: ModeSettings) -> str | None:
        """Returns the SHA-256 of the drafter's weights; None if the mode uses no drafter."""
        weights = self._drafter_folder / WEIGHTS
        return file_hash(weights) if mode.drafts and weights.is_file() else None

    def check(self, mode: ModeSettings) -> None:
        """Opens what a mode needs besides the drafter, before the model is loaded.

        Raises:
            DatabaseError, CalibrationError, PredictorError: a part is missing, damaged, or does not
                fit the mode.
        """
        if mode.retrieves:
            self.database.check_k(mode.retrieval.k)
            _check(mode, self.calibration(mode))
            self.predictor(mode)
        elif keeps_by_calibration(mode):
            self.calibration(mode)

    def decoder(
        self,
        vla: TokenModel,
        mode: ModeSettings,
        *,
        calibration: CalibratedPath | None = None,
        seed: int = 0,
        extend: Extend | None = None,
        keep_frames: bool = False,
    ) -> Decoder:
        """Builds the decoder of a mode.

        Args:
            vla: the model.
            mode: the mode.
            calibration: used instead of the one in the folder of the database or of the model.
            seed: as in `build_decoder`.
            extend: makes the store to search; None: the database itself is searched.
            keep_frames: as in `build_decoder`.

        Raises:
            DatabaseError, CalibrationError, PredictorError, DrafterError: a part is missing or does
                not fit.
        """
        store: Store | None = None
        if mode.retrieves or keeps_by_calibration(mode):
            calibration = calibration or self.calibration(mode)
        if mode.retrieves:
            self.database.check_k(mode.retrieval.k)
            _check_answers(self.database, vla.codec)
            skipping = calibration if isinstance(calibration, Calibration) else None
            store = self.database if extend is None else extend(self.database, skipping)
        return build_decoder(
            vla,
            mode,
            database=store,
            drafter=self._load_drafter(vla) if mode.drafts else None,
            calibration=calibration,
            predictor=self.predictor(mode),
            seed=seed,
            keep_frames=keep_frames,
            bounds=self.bounds(mode),
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


def keeps_by_calibration(mode: ModeSettings) -> bool:
    """Whether a calibration beside the checkpoint may decide how long a mode keeps reasonings."""
    return mode.reasoning.keep != "never" and not uses_calibration(mode)


def build_decoder(
    vla: TokenModel,
    mode: ModeSettings,
    *,
    database: Store | None = None,
    drafter: Drafter | None = None,
    calibration: CalibratedPath | None = None,
    predictor: Predictor | None = None,
    seed: int = 0,
    keep_frames: bool = False,
    bounds: MetricBounds | None = None,
) -> Decoder:
    """Builds the decoder of a mode from parts that are already open.

    Args:
        vla: the model.
        mode: the mode.
        database: needed by modes that retrieve.
        drafter: needed by modes that draft.
        calibration: of skipping: without one a calibrated mode does not skip, and says so; or of
            how long reasonings are kept: without one the mode does as its settings say.
        predictor: needed by modes whose boundary is predicted.
        seed: seed of random skips and shadow verification.
        keep_frames: return with each verified step what may be kept of it (`StepResult.frame`).
        bounds: of the metric, for modes that use it (None: those of the database).

    Raises:
        EngineError: the mode's engine cannot run here.
        ModeError: the mode needs a part that was not given, its retrieval zone has no exit, or it
            keeps reasonings and answers of the model hold none.
        CalibrationError: the calibration was made with other settings than the mode's.
    """
    if mode.engine != "auto":
        vla = vla.with_engine(mode.engine)
    if mode.propose == "none":
        return AutoregressiveDecoder(vla)
    if mode.retrieves and database is None:
        raise ModeError("the mode needs a database (`heisd db build` makes one); none was given")
    if mode.drafts and drafter is None:
        raise ModeError(
            "the mode needs a drafter (`heisd train drafter` makes one); none was given"
        )
    if mode.predicted and predictor is None:
        raise ModeError(f"the mode needs a predictor ({FIX_PREDICTOR}); none was given")
    _check(mode, calibration)
    boundary, proposers = None, proposers_of(mode, vla, drafter)
    if mode.reasoning.keep == "motion" or (mode.propose == "hybrid" and not mode.predicted):
        if bounds is None and database is not None:
            bounds = database.bounds(mode.boundary.metric)
        if bounds is None:
            raise ModeError("the mode needs the metric's bounds; none were given")
        boundary = Boundary(bounds.boundary, mode.boundary.hysteresis)
    skipping = calibration if isinstance(calibration, Calibration) else None
    return HybridDecoder(
        vla,
        mode,
        database=database,
        proposers=proposers,
        gate=SkipGate(mode.skip, skipping, seed, vla.codec.groups),
        boundary=boundary,
        chooser=None if predictor is None else Chooser(predictor, vla.codec.groups, proposers),
        keeping=calibration if isinstance(calibration, ReasoningCalibration) else None,
        keep_frames=keep_frames,
        seed=seed,
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


def _check(mode: ModeSettings, calibration: CalibratedPath | None) -> None:
    reasons = isinstance(calibration, ReasoningCalibration)
    if calibration is not None and (reasons or mode.skip.policy == "calibrated"):
        calibration.check_mode(mode)

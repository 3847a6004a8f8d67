"""Setup of an evaluation: a model, decoding modes, and the parts that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heisd_ros.data.libero_source import ROBOT
from heisd_ros.decoding.assembly import Assembly
from heisd_ros.decoding.calibrated_path import CalibratedPath
from heisd_ros.decoding.chunks import ChunkUse
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.types import Decoder
from heisd_ros.errors import CheckpointError, ModeError
from heisd_ros.evaluation.rollout import WHOLE_CHUNKS, make_scene
from heisd_ros.evaluation.skip_rates import SkipRates, at_rates
from heisd_ros.families.checkpoint import statistics_of
from heisd_ros.kinematics.metric import MetricBounds
from heisd_ros.kinematics.pose import ACTION_SIZE
from heisd_ros.retrieval.database import Database
from heisd_ros.sim.protocol import Protocol, load_for_suite, load_protocol
from heisd_ros.sim.scene import LiberoScene
from heisd_ros.vla.token_model import TokenModel


@dataclass(frozen=True)
class Setup:
    """Names and folders of an evaluation, from which each worker loads its parts.

    Attributes:
        suite: LIBERO suite.
        model: Folder of the checkpoint.
        modes: Names of ``config/modes/*.yaml``, or paths of such files.
        database: Folder of the retrieval database, for modes that retrieve.
        drafter: Folder of the drafter, for modes that draft.
        seed: Seed of the order of modes and of the decoders' random choices.
        max_steps: Control steps after which an episode has failed; None: the protocol's.
        protocol: Name or file of the protocol; empty: by the checkpoint.
        unnorm_key: Action statistics; empty: the protocol's choice.
        device: That runs the model.
        dtype: Number format of its weights, by PyTorch's name.
        rates: At which modes skip by chance whose files name no rate; None: as calibrated.
        chunk: How much of the model's chunks is executed.
    """

    suite: str
    model: str
    modes: tuple[str, ...]
    database: str
    drafter: str
    seed: int = 0
    max_steps: int | None = None
    protocol: str = ""
    unnorm_key: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    rates: SkipRates | None = None
    chunk: ChunkUse = WHOLE_CHUNKS


class Parts:
    """The modes of a setup and what they need beside the model, shared between them.

    Attributes:
        setup: What this was read for.
        modes: Settings by name, in the order of the setup.
        model: Fingerprint of the model.
        database: None where no mode retrieves.
        protocol: How episodes are run.
        calibration: The database's or the model's, of the first mode that asks for one; None where
            none does, or none was made.

    Raises:
        UnknownStatisticsError: The model has none of those that the protocol names for the suite.
        ModeError: No mode is given, one is unknown or malformed, or two have the same name.
        CheckpointError: The model is missing.
        DatabaseError: The database is missing, damaged, or another model's.
        CalibrationError: The calibration is damaged, older than the database, or another mode's.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        named = named_modes(setup.modes)
        self.modes = {name: at_rates(mode, setup.rates) for name, mode in named.items()}
        self.protocol = load_protocol(setup.protocol, setup.model)
        # Now, and not in a worker.
        self.protocol.statistics_key(setup.suite, statistics_of(setup.model), setup.unnorm_key)
        self._assembly = Assembly(setup.model, setup.database, setup.drafter, ROBOT)
        self.model = self._assembly.fingerprint
        self.database: Database | None = None
        self.calibration: CalibratedPath | None = None
        for mode in self.modes.values():
            self._assembly.check(mode)
            if mode.retrieves:
                self.database = self._assembly.database
            self.calibration = self.calibration or self._assembly.calibration(mode)

    def bounds(self, mode: ModeSettings) -> MetricBounds | None:
        """Scale of the kinematic metric that a mode decides by; None where it uses none."""
        return self._assembly.bounds(mode)

    def load_model(self) -> TokenModel:
        """The model as the protocol has it.

        Raises:
            HeisdError: It cannot be loaded, has no such statistics, acts on something else than
                the scene, or answers with fewer actions than are to be executed.
        """
        setup = self.setup
        options = {"device": setup.device, "dtype": setup.dtype, "unnorm_key": setup.unnorm_key}
        model = load_for_suite(setup.model, setup.suite, self.protocol, **options)
        codec, least = model.codec, max(setup.chunk)
        if codec.dimensions != ACTION_SIZE or codec.horizon < least:
            raise CheckpointError(
                f"{setup.model}: an answer is {codec.horizon} actions of {codec.dimensions} "
                f"numbers; accepted: at least {max(1, least)} of {ACTION_SIZE}"
            )
        return model

    @property
    def max_steps(self) -> int | None:
        """Control steps of an episode; None: the suite's."""
        return self.setup.max_steps or self.protocol.max_steps.get(self.setup.suite)

    def scene(self, task_index: int) -> LiberoScene:
        """A scene of the suite, seen as the protocol has it."""
        return make_scene(self.setup.suite, task_index, self.protocol)

    def decoders(self, vla: TokenModel) -> dict[str, Decoder]:
        """A decoder for each mode.

        Raises:
            DrafterError: A mode drafts, and the drafter is missing, damaged, or another model's.
        """
        return {
            name: self._assembly.decoder(vla, mode, seed=self.setup.seed)
            for name, mode in self.modes.items()
        }

    def describe(self) -> dict[str, Any]:
        """What was run, for the results file: contents by their hashes, without any path."""
        setup = self.setup
        return {
            "suite": setup.suite,
            "seed": setup.seed,
            "max_steps": setup.max_steps,
            **({"chunk": setup.chunk._asdict()} if any(setup.chunk) else {}),
            **run_as(self.protocol, setup.unnorm_key, setup.device, setup.dtype),
            **describe_parts(self._assembly, self.modes),
        }


def run_as(protocol: Protocol, unnorm_key: str, device: str, dtype: str) -> dict[str, Any]:
    """Describes how model and episodes are run, where it isn't as of those that are made here."""
    asked = {"unnorm_key": unnorm_key, "device": device, "dtype": dtype}
    if protocol.name != "heisd":
        return {"protocol": {**asdict(protocol), **asked}}
    usual = {"unnorm_key": "", "device": "cpu", "dtype": "float32"}
    return {name: value for name, value in asked.items() if value != usual[name]}


def describe_parts(assembly: Assembly, modes: Mapping[str, ModeSettings]) -> dict[str, Any]:
    """Describes what decodes in some modes, by contents: model, parts, settings and boundaries.

    Raises:
        HeisdError: A part is missing or cannot be used.
    """
    retrieves = any(mode.retrieves for mode in modes.values())
    drafting = next((mode for mode in modes.values() if mode.drafts), None)
    calibrations = filter(None, map(assembly.calibration, modes.values()))
    predicted = next(filter(None, map(assembly.predictor, modes.values())), None)
    return {
        "model": assembly.fingerprint,
        "database": assembly.database.manifest.database_id if retrieves else None,
        "drafter": assembly.drafter_hash(drafting) if drafting else None,
        "calibration": _described(next(calibrations, None)),
        **({"predictor": predicted.created} if predicted else {}),
        "modes": {
            name: {
                "description": mode.description,
                "settings": mode.recorded(),
                "boundary": _boundary(mode, assembly.boundary(mode)),
            }
            for name, mode in modes.items()
        },
    }


def _boundary(mode: ModeSettings, value: float | None) -> Mapping[str, Any] | None:
    if value is None:
        return None
    settings = mode.boundary
    return {
        "metric": settings.metric,
        "value": round(value, 4),
        "hysteresis": settings.hysteresis,
    }


def named_modes(modes: Sequence[str]) -> dict[str, ModeSettings]:
    """Loads modes by name.

    Raises:
        ModeError: No mode is given, one is unknown or malformed, or two have the same name.
    """
    names = [mode_name(mode) for mode in modes]
    if not names or len(set(names)) < len(names):
        raise ModeError(f"modes {list(modes)}: at least one, and each name once")
    return {name: load_mode(mode) for name, mode in zip(names, modes, strict=True)}


def mode_name(mode: str) -> str:
    """Returns the name of a mode in the results: a file's name without its suffix."""
    return Path(mode).stem if mode.endswith((".yaml", ".yml")) else mode


def _described(calibration: CalibratedPath | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    return {
        "created": calibration.created,
        "risk": calibration.risk,
        "chosen": calibration.chosen,
        "guarantee": calibration.guarantee,
    }

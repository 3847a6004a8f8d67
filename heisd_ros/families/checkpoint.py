"""Opens a checkpoint folder: which family it is of is read from its ``config.json``."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from heisd_ros import families
from heisd_ros.errors import CheckpointError, MissingPackageError
from heisd_ros.families.trainable import Preparation
from heisd_ros.files.bounded import expanded, shown
from heisd_ros.vla.checkpoint_files import CONFIG, CheckpointFiles, read_json
from heisd_ros.vla.token_model import TokenModel


class Family(Protocol):
    """The interface of a family's package.

    Attributes:
        MODEL_TYPES: values of ``model_type`` in its checkpoints.
    """

    MODEL_TYPES: tuple[str, ...]

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """Whether a ``config.json`` belongs to this family."""
        ...

    def protocol(self, config: Mapping[str, Any]) -> str:
        """Evaluation protocol of a checkpoint where none is named: a file of ``config/protocols``.

        Or ``heisd``, where data and environment are those that this package records.
        """
        ...

    def statistics(self, folder: str | Path) -> list[str]:
        """Names of a checkpoint's action statistics; none where they have no name.

        Raises:
            CheckpointError: its config or statistics are missing or damaged.
        """
        ...

    def load(
        self,
        folder: str | Path,
        device: str | torch.device,
        dtype: torch.dtype,
        statistics_key: str | None,
        **options: Any,
    ) -> TokenModel:
        """Loads a checkpoint of the family; arguments and errors as in `load_checkpoint`."""
        ...


def known_families() -> dict[str, Family]:
    """Imports every family below ``families/``; returns them by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(families.__path__) if found.ispkg)
    modules = {name: importlib.import_module(f"{families.__name__}.{name}") for name in names}
    return {name: cast(Family, module) for name, module in modules.items()}


def modules_of(part: str) -> dict[str, str]:
    """Returns the full names of the modules ``training``, say, of families that have one."""
    names = {family: f"{families.__name__}.{family}.{part}" for family in known_families()}
    return {family: name for family, name in names.items() if importlib.util.find_spec(name)}


def load_checkpoint(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    statistics_key: str | None = None,
    **options: Any,
) -> TokenModel:
    """Loads a model of any family.

    Args:
        folder: as `CheckpointFiles.find` takes it.
        device: where the model goes.
        dtype: what the weights become, whatever they are on disk.
        statistics_key: which statistics bring actions into robot units (None: the family's choice).
        options: `convention`, what stands between the model and its environment (None: nothing);
            `any_statistics`, take the first if the choice is ambiguous, for callers that do not
            act; and further ones of the family.

    Raises:
        CheckpointError: naming the file and everything that is wrong with it; or no family, or more
            than one, knows the ``model_type``.
        UnknownStatisticsError: no such statistics.
        DeviceMemoryError: the device has no room.
        MissingPackageError: the family runs on `transformers`, which is not installed.
    """
    family = known_families()[family_of(folder)]
    try:
        return family.load(folder, device, dtype, statistics_key, **options)
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise MissingPackageError(
            f"{folder} runs on transformers, which is not installed: pip install "
            "'heisd_ros[models]'"
        ) from error


def preparation(family: str) -> Preparation:
    """Returns how models of a family are made to be trained.

    Raises:
        CheckpointError: there is no such family, or it cannot be trained here.
    """
    able = modules_of("training")
    if family not in able:
        raise CheckpointError(
            f"family {shown(family)} cannot be trained here; accepted: {', '.join(able)}"
        )
    return cast(Preparation, importlib.import_module(able[family]))


def family_of(folder: str | Path) -> str:
    """Returns the name of a checkpoint's family; raises CheckpointError as `load_checkpoint`."""
    return _family_of(folder)[0]


def default_protocol(folder: str | Path) -> str:
    """Returns the default evaluation protocol of a checkpoint.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    family, config = _family_of(folder)
    return known_families()[family].protocol(config)


def statistics_of(folder: str | Path) -> list[str]:
    """Returns the names of a checkpoint's action statistics; none where they have no name.

    Raises:
        CheckpointError: as `load_checkpoint`, or its statistics are missing or damaged.
    """
    return known_families()[family_of(folder)].statistics(folder)


def _family_of(folder: str | Path) -> tuple[str, dict[str, Any]]:
    """Returns the name of a checkpoint's family, and its ``config.json``."""
    # Families differ in what lies beside it; an adapter's folder has none.
    place = expanded(folder) / CONFIG
    if not place.exists():
        place = CheckpointFiles.find(folder).config
    config = read_json(place)
    known = known_families()
    found = [name for name, family in known.items() if family.recognises(config)]
    if len(found) == 1:
        return found[0], config
    if found:
        raise CheckpointError(f"{place} is of the families {found} alike")
    types = sorted({kind for family in known.values() for kind in family.MODEL_TYPES})
    raise CheckpointError(
        f"{place}: model_type is {shown(config.get('model_type') or config.get('type'))}; "
        f"known are {', '.join(types)}"
    )

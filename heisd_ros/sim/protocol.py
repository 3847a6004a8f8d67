"""Evaluation protocols: what a checkpoint's data were like, and how its episodes are run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch

from heisd_ros.decoding.modes import config_folder
from heisd_ros.errors import ProtocolError, UnknownStatisticsError
from heisd_ros.families.checkpoint import default_protocol, load_checkpoint, statistics_of
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.files.bounded import expanded, naming, shown
from heisd_ros.files.checks import require_template
from heisd_ros.files.ros_yaml import read_yaml
from heisd_ros.files.typed import typed, within
from heisd_ros.vla.token_model import TokenModel

MAX_STEPS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
    "heisd_curves": 300,
}
"""Control steps after which an episode has failed, as OpenVLA evaluates LIBERO; ours at the end."""
MOST_STEPS = 100_000
"""Steps, states or episodes, at most."""


@dataclass(frozen=True)
class Evaluation:
    """How episodes are run. The defaults are those of the models that are trained here.

    Attributes:
        statistics: names of action statistics, with ``{suite}``, the first that exists counts;
            none: the checkpoint's only ones.
        image_size: side of the rendered pictures, pixels.
        reduced_rendering: `sim.scene.RENDERING` instead of LIBERO's own settings.
        wait_steps: steps without motion after a reset.
        first_state: first initial state of each task.
        episodes: initial states of each task from there on.
        max_steps: control steps after which an episode has failed, by suite.
    """

    statistics: tuple[str, ...] = ()
    image_size: Annotated[int, within(1, 4096)] = 128
    reduced_rendering: bool = True
    wait_steps: Annotated[int, within(0, MOST_STEPS)] = 10
    first_state: Annotated[int, within(0, MOST_STEPS)] = 40
    episodes: Annotated[int, within(1, MOST_STEPS)] = 10
    max_steps: Mapping[str, Annotated[int, within(1, MOST_STEPS)]] = field(
        default_factory=lambda: dict(MAX_STEPS)
    )

    def __post_init__(self) -> None:
        for template in self.statistics:
            require_template("statistics", template, "suite")


@dataclass(frozen=True)
class Protocol(Evaluation):
    """A protocol.

    Attributes:
        name: under which results stand.
        data: between model and scene.
    """

    name: str = "heisd"
    data: DataConvention = field(default_factory=DataConvention)

    def states(self, episodes: int = 0) -> range:
        """Initial states of each task.

        Args:
            episodes: how many; 0: all.

        Raises:
            ProtocolError: there are not so many.
        """
        if not 0 <= episodes <= self.episodes:
            raise ProtocolError(f"{episodes} episodes of a task; up to {self.episodes}, 0: all")
        return range(self.first_state, self.first_state + (episodes or self.episodes))

    def statistics_key(self, suite: str, names: list[str], asked: str = "") -> str | None:
        """The statistics to take for a suite.

        Args:
            suite: LIBERO suite.
            names: that the checkpoint has.
            asked: requested name; empty: none.

        Raises:
            UnknownStatisticsError: the checkpoint has none of those that the protocol names.
        """
        if asked and asked not in names:
            raise UnknownStatisticsError(
                f"no statistics {asked!r}; the checkpoint has {sorted(names)}"
            )
        if asked or not self.statistics:
            return asked or None
        wanted = [template.format(suite=suite) for template in self.statistics]
        for name in wanted:
            if name in names:
                return name
        raise UnknownStatisticsError(
            f"no statistics {' or '.join(map(repr, wanted))}; the checkpoint has {sorted(names)}: "
            "name one with --unnorm-key"
        )


def load_protocol(name: str, checkpoint: str | Path | None = None) -> Protocol:
    """Reads a protocol.

    Args:
        name: a file of ``config/protocols`` without its ending, a path of such a file, or
            ``heisd``. Empty: the checkpoint's default.
        checkpoint: the model's folder.

    Raises:
        ProtocolError: there is no such protocol, or the file does not describe one.
        CheckpointError: the checkpoint is missing.
    """
    if not name and checkpoint is not None:
        name = default_protocol(checkpoint)
    if name in ("", "heisd"):
        return Protocol()
    known = {file.stem: file for file in sorted(config_folder("protocols").glob("*.yaml"))}
    path = known.get(name) or expanded(name)
    if path.suffix not in (".yaml", ".yml"):
        accepted = ", ".join(["heisd", *known])
        raise ProtocolError(f"unknown protocol {shown(name)}; accepted: {accepted}, or a YAML file")
    try:
        return _parse(path.stem, read_yaml(path))
    except ValueError as error:
        raise ProtocolError(naming(path, error)) from error


def load_for_suite(
    checkpoint: str | Path,
    suite: str,
    protocol: Protocol,
    *,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    unnorm_key: str = "",
) -> TokenModel:
    """Loads a model as a protocol has it for a suite.

    Args:
        checkpoint: its folder.
        suite: LIBERO suite.
        protocol: brings the data's convention and chooses the statistics.
        device: where it goes.
        dtype: of its weights, by PyTorch's name.
        unnorm_key: statistics to take instead of the protocol's.

    Raises:
        HeisdError: as `load_checkpoint`.
    """
    key = protocol.statistics_key(suite, statistics_of(checkpoint), unnorm_key)
    number_format = getattr(torch, dtype)
    return load_checkpoint(checkpoint, device, number_format, key, convention=protocol.data)


@dataclass(frozen=True)
class _File:
    description: str = ""
    data: dict[str, Any] | None = None
    evaluation: Evaluation | None = None


def _parse(name: str, content: Any) -> Protocol:
    file: _File = typed(_File, content)
    data = DataConvention.from_dict(file.data or {})
    return Protocol(name=name, data=data, **vars(file.evaluation or Evaluation()))

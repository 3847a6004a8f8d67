"""LeRobot's normalisation of states and actions, in float32 as it runs there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heisd_ros.errors import CheckpointError
from heisd_ros.families.pi0fast.config import processor_step
from heisd_ros.files.bounded import shown
from heisd_ros.vla.tensor_files import TensorFiles

_EPSILON = np.float32(1e-8)
_RANGES = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}
_MODES = {"IDENTITY": (), "MEAN_STD": ("mean", "std"), **_RANGES}


@dataclass(frozen=True)
class Normalisation:
    """Numbers of one feature as the model has them, and back.

    Attributes:
        mode: as LeRobot names it.
        first: [D] float32, what is taken away: mean, minimum or lower quantile.
        second: [D] float32, deviation, maximum or upper quantile.
        epsilon: added to a deviation; what a range of no width is taken for.
    """

    mode: str
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    epsilon: np.float32 = _EPSILON

    @classmethod
    def read(cls, pipeline: Path, step: str, feature: str, mode: str, size: int) -> Normalisation:
        """Reads the statistics of a saved pipeline.

        Args:
            pipeline: its JSON file.
            step: the registered name of the step that holds them.
            feature: whose statistics.
            mode: which normalisation.
            size: numbers of the feature (D).

        Raises:
            CheckpointError: a file is damaged, the statistics are absent, of another size or
                reversed, or the mode is unknown.
        """
        if mode not in _MODES:
            raise CheckpointError(f"{pipeline}: mode {mode!r} of {feature}; accepted: {[*_MODES]}")
        if mode == "IDENTITY":
            return cls(mode, np.zeros(size, np.float32), np.ones(size, np.float32))
        saved = processor_step(pipeline, step)
        epsilon, name = saved["config"].get("eps", _EPSILON), saved.get("state_file")
        if not isinstance(epsilon, int | float | np.float32) or not 0.0 <= epsilon <= 1.0:
            raise CheckpointError(f"{pipeline}: eps is {shown(epsilon)}; accepted: 0 to 1")
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{pipeline}: {step} has no state_file in the same folder")
        files = TensorFiles((pipeline.parent / name,))
        arrays = []
        for key in (f"{feature}.{part}" for part in _MODES[mode]):
            if key not in files.headers:
                raise CheckpointError(f"{pipeline.parent / name} has no {key}, which {mode} needs")
            array = files.read(key).float().numpy()
            if array.shape != (size,) or not np.isfinite(array).all():
                raise CheckpointError(
                    f"{pipeline.parent / name}: {key} is {array.shape}; {size} finite numbers are "
                    "needed"
                )
            arrays.append(array)
        first, second = arrays
        least = np.zeros(size) if mode == "MEAN_STD" else first
        if (second < least).any():  # would turn motion round
            names = " and ".join(f"{feature}.{part}" for part in _MODES[mode])
            raise CheckpointError(
                f"{pipeline.parent / name}: {names} are {first.tolist()} and {second.tolist()}; "
                "accepted: no negative std, and no minimum or lower quantile above the other end"
            )
        return cls(mode, first, second, np.float32(epsilon))

    def forward(self, values: ArrayLike) -> NDArray[np.float32]:
        """[..., D] in units of the robot -> as the model has them."""
        x = np.asarray(values, np.float32)
        if self.mode == "IDENTITY":
            return x
        if self.mode == "MEAN_STD":
            return (x - self.first) / (self.second + self.epsilon)
        return np.float32(2.0) * (x - self.first) / self._width - np.float32(1.0)

    def inverse(self, values: ArrayLike) -> NDArray[np.float32]:
        """[..., D] as the model has them -> units of the robot; nothing is clipped."""
        x = np.asarray(values, np.float32)
        if self.mode == "IDENTITY":
            return x
        if self.mode == "MEAN_STD":
            return x * self.second + self.first
        return (x + np.float32(1.0)) * self._width / np.float32(2.0) + self.first

    @property
    def _width(self) -> NDArray[np.float32]:
        width = self.second - self.first
        return np.where(width == 0, self.epsilon, width)


def mode_of(pipeline: Path, step: str, kind: str, modes: Mapping[str, str]) -> str:
    """The mode of a kind of feature: that of the saved pipeline, which LeRobot runs.

    Args:
        pipeline: its JSON file.
        step: the registered name of the step that normalises.
        kind: of the feature.
        modes: those of the policy's config, where the pipeline names none.

    Raises:
        CheckpointError: the file is missing or damaged, or has no such step.
    """
    saved = processor_step(pipeline, step)["config"].get("norm_map")
    return modes_of(saved if isinstance(saved, Mapping) else modes, kind)


def modes_of(modes: Mapping[str, str], kind: str) -> str:
    """The mode of a kind of feature; LeRobot leaves alone what is not named."""
    return modes.get(kind, "IDENTITY")

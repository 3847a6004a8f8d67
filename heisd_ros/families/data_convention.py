"""Differences between a checkpoint's training data and the images and actions of an environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heisd_ros.errors import CheckpointError
from heisd_ros.families.image_steps import ImageSteps
from heisd_ros.files.checks import reject_unknown, require
from heisd_ros.files.typed import typed


@dataclass(frozen=True)
class DataConvention:
    """The conversions between a model and its environment. By default there are none.

    Attributes:
        views: names of the views, in the model's order; empty: as its config says.
        images: steps that each image goes through first.
        gripper: the model's numbers for open and closed, which become -1 and 1 by the nearer of
            the two; None: the model's number is the environment's.
    """

    views: tuple[str, ...] = ()
    images: ImageSteps = field(default_factory=ImageSteps)
    gripper: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.gripper is not None:
            require(
                len(self.gripper) == 2 and self.gripper[0] != self.gripper[1],
                f"gripper is {self.gripper}; two different numbers, for open and closed",
            )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> DataConvention:
        """Reads the section ``data`` of a protocol.

        Raises:
            ValueError: naming what is unknown, of another type or out of range.
        """
        reject_unknown("data", content, {"views", "images", "gripper"})
        views = typed(tuple[str, ...], content.get("views") or (), "data.views")
        images = typed(ImageSteps, content.get("images") or {}, "data.images")
        gripper = content.get("gripper")
        if gripper is not None:
            gripper = typed(dict[str, float], gripper, "gripper")
            require(set(gripper) == {"open", "closed"}, f"gripper is {gripper}; open and closed")
            gripper = float(gripper["open"]), float(gripper["closed"])
        return cls(views, images, gripper)

    def named(self, views: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the names of a model's views: the convention's, or those given if it has none.

        Raises:
            CheckpointError: it names another number of them.
        """
        if self.views and len(self.views) != len(views):
            raise CheckpointError(
                f"the protocol names the views {list(self.views)}; the model takes {len(views)}"
            )
        return self.views or views

    def to_environment(self, action: NDArray[np.float64]) -> NDArray[np.float64]:
        """Converts the model's action [..., 7] to the environment's convention."""
        if self.gripper is None:
            return action
        opened, closed = self.gripper
        towards_closed = (action[..., 6] - opened) / (closed - opened) - 0.5
        return np.concatenate([action[..., :6], np.sign(towards_closed)[..., None]], axis=-1)

    def to_model(self, action: ArrayLike) -> NDArray[np.float64]:
        """Converts an environment's action [..., 7] to the model's convention."""
        given = np.asarray(action, dtype=np.float64)
        if self.gripper is None:
            return given
        opened, closed = self.gripper
        number = opened + (given[..., 6] + 1.0) / 2.0 * (closed - opened)
        return np.concatenate([given[..., :6], number[..., None]], axis=-1)

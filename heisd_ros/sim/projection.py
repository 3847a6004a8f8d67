"""Where things of a simulated scene are in a camera's picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, QhullError

_SEEN_GROUP = 1
"""MuJoCo's group of the geoms that LIBERO's pictures show."""
_NEAREST = 0.01
"""Depth, m, at which points are projected that lie nearer to the camera, or behind it."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels that looks along its own -z, y up, as MuJoCo's do.

    Attributes:
        position: (3,) m, base frame.
        rotation: (3, 3) from the camera's axes to the base's.
        field_of_view: Vertical field of view, rad.
    """

    position: np.ndarray
    rotation: np.ndarray
    field_of_view: float

    def project(self, points: np.ndarray, size: int) -> np.ndarray:
        """(N, 3) points, base frame, m -> (N, 2) columns and rows in a picture of `size` pixels."""
        x, y, z = ((points - self.position) @ self.rotation).T
        focal = size / 2 / np.tan(self.field_of_view / 2)
        depth = np.maximum(-z, _NEAREST)
        return np.stack([size / 2 + focal * x / depth, size / 2 - focal * y / depth], axis=1)

    def box(self, points: np.ndarray, size: int) -> np.ndarray | None:
        """(4,) left, top, right and bottom of points in a picture; None if it shows none of them.

        What stands in front is not considered.
        """
        pixels = self.project(points, size)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        if (high < 0).any() or (low > size).any():
            return None
        return np.clip(np.concatenate([low, high]), 0, size)


def visual_hulls(model: Any, root: int) -> dict[int, np.ndarray]:
    """Points (N, 3) whose hull each visible geom of a body tree has, in the geom's frame.

    Args:
        model: MuJoCo's `MjModel`.
        root: Body at the tree's root.
    """
    hulls = {}
    for geom in np.flatnonzero(model.body_rootid[model.geom_bodyid] == model.body_rootid[root]):
        if model.geom_group[geom] != _SEEN_GROUP:
            continue
        mesh = model.geom_dataid[geom]
        if mesh >= 0:
            first = model.mesh_vertadr[mesh]
            points = np.array(model.mesh_vert[first : first + model.mesh_vertnum[mesh]])
        else:
            centre, half = model.geom_aabb[geom][:3], model.geom_aabb[geom][3:]
            points = centre + np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T * half
        hulls[int(geom)] = _corners(points)
    return hulls


def _corners(points: np.ndarray) -> np.ndarray:
    """Those of some points that span their hull."""
    try:
        return points[ConvexHull(points).vertices]
    except QhullError:  # flat
        return points

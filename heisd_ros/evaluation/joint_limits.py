"""Counts how often an arm came near its joint limits."""

from __future__ import annotations

import functools
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from heisd_ros.kinematics.robots import PANDA_JOINTS, panda_urdf

MARGIN_RAD = 0.05
"""Distance, rad, from which a joint counts as at its limit: about 3 degrees."""


@functools.cache
def panda_limits() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the lower and upper limits of the Panda's joints, (7,) each, rad, from its URDF.

    Raises:
        UrdfError: The description is not installed.
    """
    limits = {}
    for joint in ElementTree.fromstring(panda_urdf()).iter("joint"):
        limit = joint.find("limit")
        if limit is not None:
            limits[joint.get("name")] = (float(limit.get("lower", 0)), float(limit.get("upper", 0)))
    low, high = np.array([limits[name] for name in PANDA_JOINTS]).T
    return low, high


def limit_events(joints: NDArray[np.float64]) -> int:
    """Counts how many times a joint came within `MARGIN_RAD` of one of its limits.

    Args:
        joints: (T, 7) joint positions of consecutive steps, rad. Being there at the first step
            counts.
    """
    low, high = panda_limits()
    near = (joints < low + MARGIN_RAD) | (joints > high - MARGIN_RAD)
    before = np.vstack([np.zeros((1, near.shape[1]), bool), near[:-1]])
    return int((near & ~before).sum())

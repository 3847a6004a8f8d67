"""A Panda of capsules, and a second way to its distances that shares nothing with the first."""

from __future__ import annotations

from importlib import metadata
from xml.etree import ElementTree

import numpy as np
from scipy.spatial.transform import Rotation

from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.geometry import ArmGeometry

BASE, TIP = "panda_link0", "panda_hand"
READY = np.array([0.0, -0.5, 0.0, -2.2, 0.0, 1.8, 0.7])
_FILE = "cmeel.prefix/share/example-robot-data/robots/panda_description/urdf/panda_collision.urdf"


def capsule_urdf():
    """Every link is a cylinder with a ball at each end, so that it is a capsule."""
    return metadata.distribution("example-robot-data").locate_file(_FILE).read_text("utf-8")


def capsule_arm():
    """The Panda with its geometry."""
    arm = ArmKinematics(capsule_urdf(), TIP, None, BASE)
    arm.geometry = ArmGeometry(capsule_urdf(), arm)
    return arm


class Capsules:
    """The distances of the links in pairs, and of the moving ones to the plane z = 0 of the base.

    Fingers are left to others: they are no part of the arm's chain.
    """

    def __init__(self):
        self._parts = {}  # link to its chain, the ends of its capsules and their radii
        for link in ElementTree.fromstring(capsule_urdf()).findall("link"):
            name = link.get("name")
            rods = [
                each
                for each in link.findall("collision")
                if each.find("geometry/cylinder") is not None
            ]
            if not rods or "finger" in name:
                continue
            arm = None if name == BASE else ArmKinematics(capsule_urdf(), name, None, BASE)
            self._parts[name] = arm, [_capsule(rod) for rod in rods]

    def measure(self, q, pairs):
        """Least distance of the pairs of links, and of a moving link to the plane, m."""
        placed = {}
        for name, (arm, capsules) in self._parts.items():
            turn, shift = np.eye(3), np.zeros(3)
            if arm is not None:
                pose = arm.forward(q[: len(arm.joint_names)])
                turn, shift = pose.rotation, pose.position
            placed[name] = [(ends @ turn.T + shift, radius) for ends, radius in capsules]
        between = [
            _segments(*one, *other) - first - second
            for a, b in pairs
            for one, first in placed[a]
            for other, second in placed[b]
        ]
        heights = {
            name: min(ends[:, 2].min() - radius for ends, radius in capsules)
            for name, capsules in placed.items()
            if name != BASE
        }
        return min(between), heights


def _capsule(element):
    """Ends of its axis in the frame of the link, (2, 3), and its radius, m."""
    origin, rod = element.find("origin"), element.find("geometry/cylinder")
    rpy, xyz = (np.array(origin.get(key, "0 0 0").split(), float) for key in ("rpy", "xyz"))
    axis = Rotation.from_euler("xyz", rpy).as_matrix()[:, 2] * float(rod.get("length"))
    return np.array([xyz - axis / 2, xyz + axis / 2]), float(rod.get("radius"))


def _segments(a, b, c, d):
    """Distance of the segments a-b and c-d (Ericson, Real-Time Collision Detection, 5.1.9)."""
    first, second, r = b - a, d - c, a - c
    aa, ee, bb, cc, ff = first @ first, second @ second, first @ second, first @ r, second @ r
    size = aa * ee - bb * bb
    s = np.clip((bb * ff - cc * ee) / size, 0, 1) if size > 1e-12 else 0.0
    t = np.clip((bb * s + ff) / ee, 0, 1)
    s = np.clip((bb * t - cc) / aa, 0, 1)
    return np.linalg.norm(a + first * s - c - second * t)

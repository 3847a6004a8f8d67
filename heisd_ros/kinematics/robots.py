"""The Franka Emika Panda, from the `example-robot-data` package (BSD-3-Clause).

The description is used as it ships. Its meshes are never opened: kinematics needs only links and
joints. It already holds `panda_hand_tcp`, a fixed frame 0.1034 m along z of `panda_hand`.

Against the Panda of robosuite and LIBERO (measured, exact to rounding): the joints and the base
agree; robosuite's `gripper0_grip_site` lies at (0, 0, -0.0069) m in `panda_hand_tcp`, turned by
-90.03 degrees about its z; the body `robot0_right_hand` has the tip's orientation within 0.03
degrees, and it is the one whose quaternion LIBERO reports as `robot0_eef_quat`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from heisd_ros.errors import UrdfError
from heisd_ros.files.bounded import read_text

PANDA_BASE = "panda_link0"
PANDA_TIP = "panda_hand_tcp"
PANDA_JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
# Both open positively, each 0 to 0.04 m; the second mimics the first.
PANDA_FINGER_JOINTS = ("panda_finger_joint1", "panda_finger_joint2")

_ROBOTS = Path("example-robot-data/robots")
_PANDA_URDF = Path("panda_description/urdf/panda.urdf")


def share_folders() -> Iterator[Path]:
    """Yields the folders where `example-robot-data` may be installed: wheel first, then ROS."""
    try:
        distribution = metadata.distribution("example-robot-data")
    except metadata.PackageNotFoundError:
        pass
    else:
        yield Path(str(distribution.locate_file("cmeel.prefix/share")))
    for variable in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
        for prefix in filter(None, os.environ.get(variable, "").split(os.pathsep)):
            yield Path(prefix) / "share"
    yield Path(sys.prefix) / "share"


def panda_urdf() -> str:
    """Returns the Panda's URDF text (7 arm joints, hand, two fingers).

    Raises:
        UrdfError: `example-robot-data` is not installed.
    """
    return read_text(robots_folder() / _PANDA_URDF, UrdfError)


def robots_folder() -> Path:
    """Returns the folder of `example-robot-data` with a folder for each robot.

    Raises:
        UrdfError: `example-robot-data` is not installed.
    """
    folders = list(share_folders())
    for folder in folders:
        if (folder / _ROBOTS / _PANDA_URDF).is_file():
            return folder / _ROBOTS
    raise UrdfError(
        f"{_ROBOTS / _PANDA_URDF} is in none of {[str(folder) for folder in folders]}; install the "
        "Python package example-robot-data, or ros-<distro>-example-robot-data"
    )

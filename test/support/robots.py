"""The shipped robot files, and the makers' descriptions that come with example-robot-data."""

from __future__ import annotations

from importlib import metadata

from support.tree import ROOT

URDF = {
    "franka": "panda_description/urdf/panda.urdf",
    # The UR5 has the joints and frames of the UR5e, in other lengths.
    "ur5e": "ur_description/urdf/ur5_robot.urdf",
    "xarm7": "xarm_description/urdf/xarm7.urdf",
}


def robot_files():
    """Robot name to its file."""
    return {path.stem: path for path in sorted((ROOT / "config" / "robots").glob("*.yaml"))}


def urdf_of(name):
    """URDF text of a robot."""
    share = "cmeel.prefix/share/example-robot-data/robots"
    file = metadata.distribution("example-robot-data").locate_file(f"{share}/{URDF[name]}")
    return file.read_text(encoding="utf-8")

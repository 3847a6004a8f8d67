"""The shipped robot files, and the makers' descriptions that come with example-robot-data."""

from __future__ import annotations

from importlib import metadata

from support.tree import ROOT

URDF = {
    "franka": "panda_description/urdf/panda.urdf",
    # A Panda by other names.
    "panda": "panda_description/urdf/panda.urdf",
    "fer": "panda_description/urdf/panda.urdf",
    "fr3": "panda_description/urdf/panda.urdf",
    # The older arms have the joints and frames of the e series, in other lengths.
    "ur3e": "ur_description/urdf/ur3_robot.urdf",
    "ur5e": "ur_description/urdf/ur5_robot.urdf",
    "ur10e": "ur_description/urdf/ur10_robot.urdf",
    "xarm7": "xarm_description/urdf/xarm7.urdf",
    "so101": "so_arm_description/urdf/so101.urdf",
}
WITH_GRIPPER = """
  <link name="link_tcp"/>
  <joint name="joint_tcp" type="fixed"><parent link="link_eef"/><child link="link_tcp"/></joint>
</robot>"""
"""As xarm_description adds it with a gripper."""


def robot_files():
    """Robot name to its file."""
    return {path.stem: path for path in sorted((ROOT / "config" / "robots").glob("*.yaml"))}


def urdf_of(name):
    """URDF text of a robot."""
    share = "cmeel.prefix/share/example-robot-data/robots"
    file = metadata.distribution("example-robot-data").locate_file(f"{share}/{URDF[name]}")
    text = file.read_text(encoding="utf-8")
    if name in ("fer", "fr3"):
        return text.replace("panda_", f"{name}_")
    return text.replace("</robot>", WITH_GRIPPER) if name == "xarm7" else text

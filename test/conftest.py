"""Settings that hold for every test run, and the fixtures that more than one room uses."""

from __future__ import annotations

import os
import tempfile

import pytest
from hypothesis import settings
from support.tiny_vla import save_tiny_checkpoint

from heisd_ros.sim.renderer import default_renderer

# Tests talk over real DDS. A domain of their own and no traffic beyond this machine keep them apart
# from robots in the network and from another run beside them. (On Linux domains to 101 are safe.)
os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_LOG_DIR", tempfile.mkdtemp(prefix="heisd_ros_log_"))
os.environ.setdefault("MPLBACKEND", "agg")
# MuJoCo chooses its renderer when it is first imported, by whichever test that is.
os.environ.setdefault("MUJOCO_GL", default_renderer())

# A slow machine is no failure; on CI the same examples are drawn every time.
settings.register_profile("heisd", deadline=None, print_blob=True, max_examples=40)
settings.register_profile("long", parent=settings.get_profile("heisd"), max_examples=1000)
settings.register_profile("ci", parent=settings.get_profile("heisd"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "heisd")


@pytest.fixture
def world():
    """ROS in a domain of its own; every command that a bench heard is checked at the end."""
    from support.recorder import assert_commands_within_limits  # these import rclpy
    from support.ros import World

    world = World()
    yield world
    world.close()
    assert_commands_within_limits(world)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folder of a tiny random model with two views and proprioception."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny_vla"))

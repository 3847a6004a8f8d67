"""Settings that hold for every test run, and the fixtures that more than one room uses."""

from __future__ import annotations

import gc
import os
import tempfile

import pytest
from hypothesis import settings
from support.workers import next_domain_id, put_long_ones_first, scheduler, share_of

from heisd_ros.sim.renderer import default_renderer

# Tests talk over real DDS. A domain of their own and no traffic beyond this machine keep them apart
# from robots in the network and from another run beside them.
os.environ["ROS_DOMAIN_ID"] = str(next_domain_id())
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


def pytest_configure(config):
    """Workers, and the processes that they start, have one core each."""
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    if "PYTEST_XDIST_WORKER" in os.environ:
        put_long_ones_first(items)


def pytest_collection_finish(session):
    """What was imported stays: a node that frees its memory does not look through all of it."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return scheduler(config, log)


@pytest.fixture
def world(request, monkeypatch):
    """ROS in a domain of its own; every command that a bench heard is checked at the end."""
    assert share_of(request.node.nodeid) == "ros", "support.workers.ROS_ROOMS lacks this file"
    monkeypatch.setattr("heisd_ros.nodes.updater.PERIOD_SEC", 0.2)  # many tests wait for it
    from support.recorder import assert_commands_within_limits  # these import rclpy
    from support.ros import World

    world = World()
    yield world
    world.close()
    assert_commands_within_limits(world)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folder of a tiny random model with two views and proprioception."""
    from support.tiny_vla import save_tiny_checkpoint  # which imports PyTorch

    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny_vla"))


@pytest.fixture
def one_thread():
    """Sums are the same from run to run."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

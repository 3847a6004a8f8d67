"""Fixtures of the node tests."""

from __future__ import annotations

import pytest
from support.ros import World
from support.tiny_vla import save_tiny_checkpoint


@pytest.fixture
def world():
    """ROS in a domain of its own."""
    world = World()
    yield world
    world.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folder of a tiny random model with two views and proprioception."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny_vla"))

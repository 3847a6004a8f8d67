"""Fixtures of the node tests."""

from __future__ import annotations

import pytest
from support.recorder import assert_commands_within_limits
from support.ros import World
from support.tiny_vla import save_tiny_checkpoint


@pytest.fixture
def world():
    """ROS in a domain of its own; every command that a bench heard is checked at the end."""
    world = World()
    yield world
    world.close()
    assert_commands_within_limits(world)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folder of a tiny random model with two views and proprioception."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny_vla"))

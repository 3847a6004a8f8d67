"""Ray Data gives the results of a single process, frame by frame."""

from __future__ import annotations

import os

import numpy as np
import pytest
from support.episodes import episode
from support.ray_work import FrameReader
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint
from support.tree import ROOT

from heisd_ros.training.ray_map import map_on_ray


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, one worker at a time."""
    ray = pytest.importorskip("ray")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "test")])
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}},
    )
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_frames_read_by_ray_are_those_read_here(cluster, tmp_path):
    reader = FrameReader(save_tiny_checkpoint(tmp_path / "model"))
    episodes = [episode(steps=5, seed=s, instruction=INSTRUCTIONS[s % 2]) for s in range(3)]
    here = reader()
    found = dict(map_on_ray(reader, episodes))
    assert sorted(found) == [0, 1, 2]
    for number, recorded in enumerate(episodes):
        own = here(recorded)
        np.testing.assert_allclose(found[number].keys, own.keys, atol=1e-6)
        np.testing.assert_array_equal(found[number].tokens, own.tokens)


def test_no_items_need_no_cluster():
    assert list(map_on_ray(dict, [])) == []

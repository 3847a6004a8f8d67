"""Jobs on a Ray cluster of two nodes on this machine; skipped where Ray is not installed."""

from __future__ import annotations

import os

import pytest
from support.ray_work import dies, dies_once, where
from support.tree import ROOT

from heisd_ros.cli.ray_jobs import run_jobs_on_ray
from heisd_ros.errors import ClusterError, MissingPackageError


@pytest.fixture(scope="module")
def address():
    """A cluster of two nodes with one core each."""
    utils = pytest.importorskip("ray.cluster_utils")
    paths = [str(ROOT), str(ROOT / "test"), os.environ.get("PYTHONPATH", "")]
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join(paths))
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = utils.Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()
    patch.undo()


@pytest.mark.slow
def test_both_nodes_work_and_every_job_is_done_once(address):
    found = list(run_jobs_on_ray(address, where, [(n,) for n in range(8)], "jobs"))
    assert sorted(number for number, _ in found) == list(range(8))
    assert len({node for _, node in found}) == 2


@pytest.mark.slow
def test_a_worker_that_dies_loses_nothing(address, tmp_path):
    jobs = [(n, str(tmp_path)) for n in range(3)]
    assert sorted(run_jobs_on_ray(address, dies_once, jobs, "jobs")) == [0, 1, 2]
    assert (tmp_path / "1").exists()


@pytest.mark.slow
def test_a_job_that_always_kills_its_worker_is_named(address):
    with pytest.raises(ClusterError, match="a job's worker died 4 times"):
        list(run_jobs_on_ray(address, dies, [()], "jobs"))


def test_no_jobs_need_no_cluster():
    assert list(run_jobs_on_ray("nowhere:1", where, [], "jobs")) == []


def test_a_missing_ray_and_a_missing_cluster_are_named(monkeypatch):
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(MissingPackageError, match=r"pip install 'heisd_ros\[ray\]'"):
            list(run_jobs_on_ray("auto", where, [(1,)], "jobs"))
        return
    with pytest.raises(ClusterError, match="no Ray cluster at 'ray-is-not-here'"):
        list(run_jobs_on_ray("ray-is-not-here", where, [(1,)], "jobs"))

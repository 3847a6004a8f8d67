"""Jobs on a Ray cluster of two nodes on this machine; skipped where Ray is not installed."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from support.episodes import episode
from support.ray_work import dies, dies_once, refuses, where
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint
from support.tree import ROOT
from typer.testing import CliRunner

from heisd_ros.cli import ray_jobs
from heisd_ros.cli.db import app
from heisd_ros.cli.ray_jobs import run_jobs_on_ray
from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.errors import ClusterError, MissingPackageError
from heisd_ros.retrieval.database import Database
from heisd_ros.vla.checkpoint_files import fingerprint


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
def test_a_job_that_always_kills_its_worker_is_named(address, monkeypatch):
    monkeypatch.setattr(ray_jobs, "_RETRIES", 0)
    with pytest.raises(ClusterError, match="a job's worker died 1 times"):
        list(run_jobs_on_ray(address, dies, [()], "jobs"))


@pytest.mark.slow
def test_an_error_of_a_job_and_another_version_are_one_line(address, monkeypatch):
    with pytest.raises(ClusterError, match=r"a tensor of rank 9$") as caught:
        list(run_jobs_on_ray(address, refuses, [()], "jobs"))
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("heisd_ros.__version__", "9.9.9")
    with pytest.raises(ClusterError, match=r"accepted: 9\.9\.9, as here"):
        list(run_jobs_on_ray(address, where, [(1,)], "jobs"))


@pytest.mark.slow
def test_a_database_built_by_a_cluster_is_that_built_here(address, tmp_path):
    model = save_tiny_checkpoint(tmp_path / "model")
    writer = LiberoWriter(tmp_path / "demos" / "a_demo.hdf5", INSTRUCTIONS[0], "x.bddl", {})
    for seed in range(3):
        writer.add(episode(steps=9, seed=seed, init_state=seed), seed, np.zeros((9, 4)), "")
    shards = {}
    for name, options in (("here", []), ("there", ["--ray", address])):
        folder = tmp_path / name
        given = ["build", tmp_path / "demos", folder, "--model", model, *options]
        result = CliRunner().invoke(app, [str(argument) for argument in given])
        assert result.exit_code == 0, result.output
        database = Database.open(folder, fingerprint(model))
        (shard,) = database.manifest.shards
        shards[name] = (
            (shard.episodes, shard.entries),
            sorted(
                (file.relative_to(folder).as_posix(), file.stat().st_size)
                for file in folder.rglob("*.npy")
            ),
        )
    assert shards["here"] == shards["there"] and shards["here"][0] == (3, 27)
    for name, _ in shards["here"][1]:
        one, other = (np.load(tmp_path / place / name) for place in ("here", "there"))
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_no_jobs_need_no_cluster():
    assert list(run_jobs_on_ray("nowhere:1", where, [], "jobs")) == []


def test_a_missing_ray_and_a_missing_cluster_are_named(monkeypatch):
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(MissingPackageError, match=r"pip install 'heisd_ros\[ray\]'"):
            list(run_jobs_on_ray("auto", where, [(1,)], "jobs"))
        return
    for away in ("ray-is-not-here", "127.0.0.1:1"):  # Ray would wait for minutes at the second
        with pytest.raises(ClusterError, match=f"no Ray cluster at '{away}'"):
            list(run_jobs_on_ray(away, where, [(1,)], "jobs"))


@pytest.mark.parametrize(
    "first", [b"HTTP/1.1 400 Bad Request\r\n", b"", bytes(3) + b"\4" + bytes(5)]
)
def test_what_listens_and_is_no_cluster_is_named_at_once(first):
    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(first)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        good = first.startswith(bytes(3))
        with nullcontext() if good else pytest.raises(OSError, match="something else"):
            ray_jobs._check_answers(address)
        thread.join()

"""Databases that are built in pieces, killed, added to, merged, pruned and verified."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from support.episodes import episode
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint

from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.data.open_sources import Reading, open_sources
from heisd_ros.errors import DatabaseError
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.files.ranges import parse_ranges
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.manifest import Manifest
from heisd_ros.training.build_database import build_database
from heisd_ros.training.build_journal import Journal
from heisd_ros.training.editing import (
    Pruning,
    add_to_database,
    merge_databases,
    prune_database,
    verify_database,
)
from heisd_ros.training.encode_frames import read_frames
from heisd_ros.vla.checkpoint_files import fingerprint

RATE_HZ = 20.0
BUILD = """\
import sys
from pathlib import Path
from heisd_ros.data.open_sources import Reading, open_sources
from heisd_ros.training.build_database import build_database
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.vla.checkpoint_files import fingerprint
model, demos, folder = sys.argv[1:]
build_database(load_checkpoint(model), fingerprint(model),
               open_sources([Path(demos)], Reading()), Path(folder), 20.0,
               on_frames=lambda done, total: print(done, flush=True))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def vla(model):
    return load_checkpoint(model)


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """Three folders of demonstrations: a and b share their tasks, c has one of them."""
    root = tmp_path_factory.mktemp("demos")
    for seed, (name, tasks) in enumerate((("a", 2), ("b", 2), ("c", 1))):
        for task in range(tasks):
            writer = LiberoWriter(
                root / name / f"t{task}_demo.hdf5", INSTRUCTIONS[task], "x.bddl", {}
            )
            for number in range(3):
                made = episode(
                    steps=8 + number, seed=20 * seed + 5 * task + number,
                    instruction=INSTRUCTIONS[task], init_state=number,
                )  # fmt: skip
                writer.add(made, number, np.zeros((len(made), 4)), "")
    return root


def sources(*folders):
    return open_sources(list(folders), Reading())


def build(vla, model, folder, *demonstrations, **options):
    return build_database(
        vla, fingerprint(model), sources(*demonstrations), folder, RATE_HZ, **options
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory, vla, model, demos):
    """Databases of a, and of b, and of both."""
    root = tmp_path_factory.mktemp("built")
    build(vla, model, root / "a", demos / "a")
    build(vla, model, root / "b", demos / "b")
    build(vla, model, root / "both", demos / "a", demos / "b")
    return root


def columns(folder, instruction=INSTRUCTIONS[0]):
    """A task's arrays, ordered by episode and step."""
    database = Database.open(folder, Manifest.read(folder).model_fingerprint)
    shard, _ = database.shard_for(instruction)
    order = np.lexsort((shard.columns["steps"], shard.columns["episodes"]))
    return {name: np.array(array)[order] for name, array in shard.columns.items()}


def same_rows(one, other):
    for name in set(one) - {"episodes"}:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def stopped_after(count):
    seen = []

    def on_frames(done, total):
        seen.append(done)
        if len(seen) == count:
            raise KeyboardInterrupt

    return on_frames


@pytest.mark.parametrize("count", [1, 4, 6])
def test_an_interrupted_build_is_resumed_with_the_same_result(
    vla, model, demos, built, tmp_path, monkeypatch, count
):
    folder = tmp_path / "db"
    with pytest.raises(KeyboardInterrupt):
        build(vla, model, folder, demos / "a", on_frames=stopped_after(count))
    with pytest.raises(DatabaseError, match="holds no database"):
        Manifest.read(folder)
    with pytest.raises(DatabaseError, match="holds no database"):
        Manifest.read(tmp_path / ".db.building")
    asked = []

    def counted(*args):
        asked.append(args)
        return read_frames(*args)

    monkeypatch.setattr("heisd_ros.training.build_database.read_frames", counted)
    manifest = build(vla, model, folder, demos / "a")
    assert len(asked) == 6 - count
    assert manifest.database_id == Manifest.read(built / "a").database_id
    assert not (tmp_path / ".db.building").exists()


def test_a_killed_build_is_resumed_with_the_same_result(vla, model, demos, built, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, model, demos / "a", tmp_path / "db"],
        stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list((tmp_path / ".db.building").glob("*.npz")) and not (tmp_path / "db").exists()
    manifest = build(vla, model, tmp_path / "db", demos / "a")
    assert manifest.database_id == Manifest.read(built / "a").database_id


@contextmanager
def file_size_limit(size):
    """Writing more than this into a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [3000, 8000])
def test_a_full_disk_says_what_is_kept_and_leaves_no_database(
    vla, model, demos, built, tmp_path, size
):
    refused = pytest.raises(DatabaseError, match=r"is kept in .*\.db\.building: make room and run")
    with refused, file_size_limit(size):
        build(vla, model, tmp_path / "db", demos / "a", demos / "b")
    assert not (tmp_path / "db").exists()
    manifest = build(vla, model, tmp_path / "db", demos / "a", demos / "b")
    assert manifest.database_id == Manifest.read(built / "both").database_id


def test_another_build_does_not_take_over_what_was_begun(vla, model, demos, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(vla, model, tmp_path / "db", demos / "a", on_frames=stopped_after(1))
    with pytest.raises(DatabaseError, match=r"half of a build with other every; .*remove it"):
        build(vla, model, tmp_path / "db", demos / "a", every=2)
    (tmp_path / ".db.building" / "000000.npz").write_bytes(b"damaged")
    with pytest.raises(DatabaseError, match=r"000000\.npz is damaged .*; remove it"):
        build(vla, model, tmp_path / "db", demos / "a")


def test_one_process_builds_at_a_time(tmp_path):
    taken = pytest.raises(DatabaseError, match="another process builds")
    with Journal(tmp_path / "db", {"a": 1}), taken:
        Journal(tmp_path / "db", {"a": 1}).__enter__()
    with Journal(tmp_path / "db", {"a": 1}) as journal:
        assert json.loads((journal.folder / "plan.json").read_text()) == {"a": 1}


def test_what_memory_cannot_hold_is_sampled(vla, model, demos, built, tmp_path, monkeypatch):
    monkeypatch.setattr("heisd_ros.training.build_database.FIT_BYTES", 20_000)
    manifest = build(vla, model, tmp_path / "db", demos / "a", demos / "b")
    assert manifest.entries == Manifest.read(built / "both").entries
    same_rows(columns(tmp_path / "db"), columns(built / "both"))
    assert verify_database(tmp_path / "db")


def test_adding_is_as_building_from_all_but_for_the_model(vla, model, demos, built, tmp_path):
    folder = tmp_path / "db"
    build(vla, model, folder, demos / "a")
    before = Manifest.read(folder)
    with pytest.raises(KeyboardInterrupt):
        add_to_database(
            folder, vla, fingerprint(model), sources(demos / "b"), on_frames=stopped_after(2)
        )
    assert Manifest.read(folder) == before
    manifest = add_to_database(folder, vla, fingerprint(model), sources(demos / "b"))
    whole = Manifest.read(built / "both")
    assert manifest.entries == whole.entries
    assert manifest.provenance["demonstrations"] == whole.provenance["demonstrations"]
    assert manifest.provenance["added_to"] == [before.database_id]
    assert manifest.bounds == before.bounds
    for instruction in INSTRUCTIONS:
        same_rows(columns(folder, instruction), columns(built / "both", instruction))
    assert verify_database(folder, fingerprint(model))
    with pytest.raises(DatabaseError, match=r"b/t0_demo\.hdf5.* in .* already"):
        add_to_database(folder, vla, fingerprint(model), sources(demos / "b"))


def test_old_keys_stay_what_they_were(vla, model, demos, built, tmp_path):
    """Within the step of a code, which is what a database promises of any key."""
    folder = tmp_path / "db"
    build(vla, model, folder, demos / "a")
    add_to_database(folder, vla, fingerprint(model), sources(demos / "c"))
    old = Database.open(built / "a", fingerprint(model))
    new = Database.open(folder, fingerprint(model))
    for shard in old:
        for row in range(0, len(shard), 5):
            key = shard._space.quantiser.decode(shard._keys[np.array([row])][0])
            key = key / np.linalg.norm(key)
            found = new.shard_for(shard.instruction)[0].search(key, 1)
            assert found.similarity[0] > 0.999
            np.testing.assert_array_equal(found.tokens[0], shard.columns["tokens"][row])


def test_merging_is_as_building_from_both(built, tmp_path):
    manifest = merge_databases([built / "a", built / "b"], tmp_path / "db")
    assert manifest.entries == Manifest.read(built / "both").entries
    for instruction in INSTRUCTIONS:
        merged = columns(tmp_path / "db", instruction)
        same = columns(built / "both", instruction)
        rows = {name: sorted(map(repr, array.tolist())) for name, array in merged.items()}
        for name in set(rows) - {"episodes"}:
            assert rows[name] == sorted(map(repr, same[name].tolist())), name
    assert len(manifest.provenance["merged"]) == 2
    assert verify_database(tmp_path / "db")


def test_what_does_not_fit_is_not_merged(vla, model, demos, built, tmp_path):
    with pytest.raises(DatabaseError, match="are in more than one"):
        merge_databases([built / "a", built / "both"], tmp_path / "db")
    sources_ = sources(demos / "b")
    build_database(vla, "e" * 64, sources_, tmp_path / "other", RATE_HZ)
    with pytest.raises(DatabaseError, match="has model_fingerprint"):
        merge_databases([built / "a", tmp_path / "other"], tmp_path / "db")
    assert not (tmp_path / "db").exists()


def test_pruning_leaves_out_what_is_named(built, tmp_path):
    both = built / "both"
    manifest = prune_database(both, Pruning(instructions=(INSTRUCTIONS[1],)), tmp_path / "one")
    assert [shard.instruction for shard in manifest.shards] == [INSTRUCTIONS[0]]
    manifest = prune_database(both, Pruning(episodes={0, 2}), tmp_path / "two")
    assert manifest.entries == Manifest.read(both).entries - 8 - 10
    assert not np.isin(columns(tmp_path / "two")["episodes"], [0, 2]).any()
    manifest = prune_database(both, Pruning(every=2), tmp_path / "three")
    assert manifest.entries == 4 * (4 + 5 + 5)
    np.testing.assert_array_equal(columns(tmp_path / "three")["steps"][:4], [0, 4, 8, 12])
    for name in ("one", "two", "three"):
        assert verify_database(tmp_path / name)
    with pytest.raises(DatabaseError, match=r"has no task \['dance'\]"):
        prune_database(both, Pruning(instructions=("Dance",)), tmp_path / "x")
    with pytest.raises(DatabaseError, match=r"nothing of .* would be left"):
        prune_database(both, Pruning(instructions=INSTRUCTIONS), tmp_path / "x")
    with pytest.raises(DatabaseError, match=r"has no episodes 98-99; accepted: 0-\d+$"):
        prune_database(both, Pruning(episodes={0, 98, 99}), tmp_path / "x")
    with pytest.raises(DatabaseError, match="nothing to leave out; accepted: tasks, episodes"):
        prune_database(both, Pruning(), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_source_that_was_pruned_may_be_added_again(vla, model, demos, built, tmp_path):
    known = Manifest.read(built / "both").provenance["demonstrations"]
    label, about = next((name, each) for name, each in known.items() if name.startswith("b/"))
    gone = parse_ranges(about["numbers"])
    manifest = prune_database(built / "both", Pruning(episodes=gone), tmp_path / "db")
    left = manifest.provenance["demonstrations"]
    assert left == {name: each for name, each in known.items() if name != label}
    assert manifest.entries == sum(each["frames"] for each in left.values())
    chosen = [source for source in sources(demos / "b") if source.label == label]
    manifest = add_to_database(tmp_path / "db", vla, fingerprint(model), chosen)
    again = manifest.provenance["demonstrations"][label]
    assert (again["episodes"], again["frames"]) == (about["episodes"], about["frames"])
    assert not parse_ranges(again["numbers"]) & set().union(
        *(parse_ranges(each["numbers"]) for each in left.values())
    )


def test_the_numbers_of_merged_episodes_are_theirs(built, tmp_path):
    manifest = merge_databases([built / "a", built / "b"], tmp_path / "db")
    stored = np.concatenate([columns(tmp_path / "db", i)["episodes"] for i in INSTRUCTIONS])
    for about in manifest.provenance["demonstrations"].values():
        numbers = parse_ranges(about["numbers"])
        assert about["episodes"] == len(numbers)
        assert about["frames"] == np.isin(stored, list(numbers)).sum()


@pytest.mark.parametrize("changed", ["params", "dtype"])
def test_a_build_is_resumed_only_with_what_decides_its_entries(
    vla, model, demos, tmp_path, changed
):
    options = {"params": "open_action: 1", "dtype": "float32"}
    with pytest.raises(KeyboardInterrupt):
        build_database(
            vla, fingerprint(model), sources(demos / "a"), tmp_path / "db", RATE_HZ,
            on_frames=stopped_after(2), read_as=options,
        )  # fmt: skip
    with pytest.raises(DatabaseError, match=f"half of a build with other {changed}"):
        build_database(
            vla, fingerprint(model), sources(demos / "a"), tmp_path / "db", RATE_HZ,
            read_as=options | {changed: "another"},
        )  # fmt: skip
    build_database(
        vla, fingerprint(model), sources(demos / "a"), tmp_path / "db", RATE_HZ, read_as=options
    )


def test_verification_names_what_is_wrong(built, tmp_path):
    shutil.copytree(built / "a", tmp_path / "db")
    assert "find themselves" in verify_database(tmp_path / "db")[-1]
    with pytest.raises(DatabaseError, match="is in use"):
        verify_database(tmp_path / "db", "e" * 64)
    (tmp_path / "db/shards/000/tokens.npy").write_bytes(b"other")
    with pytest.raises(DatabaseError, match=r"tokens\.npy is damaged"):
        verify_database(tmp_path / "db")


def test_sources_that_do_not_fit_are_refused(vla, model, demos, tmp_path):
    (source,) = sources(demos / "c")
    source.rate_hz = 30.0
    with pytest.raises(DatabaseError, match="30 steps a second, the model 20"):
        build_database(vla, "f" * 64, [source], tmp_path / "db", RATE_HZ)
    source.rate_hz, source.robot = 0.0, "ur5e"
    with pytest.raises(DatabaseError, match=r"of the robots \['panda', 'ur5e'\]"):
        build_database(vla, "f" * 64, [source, *sources(demos / "a")], tmp_path / "db", RATE_HZ)

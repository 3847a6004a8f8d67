"""The manifest reads back as written, its id depends on its content, and errors name it."""

from __future__ import annotations

import dataclasses
import json

import pytest
from support.database import description

from heisd_ros.errors import DatabaseError
from heisd_ros.retrieval.manifest import MANIFEST, Fidelity, Manifest, ShardInfo


def complete(**changes):
    fields = {
        "fidelity": Fidelity(10, 0.995, 1e-4),
        "shards": (ShardInfo("pick up the bowl", "shards/000", 15, 3),),
        "files": {"shards/000/keys.npy": "0" * 64},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return dataclasses.replace(description(), **(fields | changes)).sealed()


def write(folder, text):
    (folder / MANIFEST).write_text(text)
    return folder


def test_round_trip(tmp_path):
    manifest = complete()
    assert Manifest.read(write(tmp_path, manifest.to_json())) == manifest
    assert manifest.entries == 15


def test_the_id_is_the_content_and_not_the_hour():
    later = complete(created="2027-01-01T00:00:00+00:00")
    assert later.database_id == complete().database_id
    assert complete(files={}).database_id != complete().database_id
    assert complete(robot="ur5").database_id != complete().database_id
    assert complete(bounds={}).database_id != complete().database_id


def test_a_manifest_with_another_id_was_changed(tmp_path):
    text = complete().to_json().replace(complete().database_id, "0" * 64)
    with pytest.raises(DatabaseError, match="changed after it was written"):
        Manifest.read(write(tmp_path, text))


def test_a_missing_manifest_names_the_command(tmp_path):
    with pytest.raises(DatabaseError, match=r"holds no database.*heisd db build"):
        Manifest.read(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"format": 2}', "\udcff"])
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / MANIFEST).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DatabaseError, match=r"manifest\.json (is damaged|cannot be read)"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("features", {}), ("shards", [{"instruction": 3}]), ("bounds", {"speed": {}}), ("extra", 1)],
)
def test_a_manifest_with_other_fields_is_damaged(tmp_path, key, value):
    values = json.loads(complete().to_json()) | {key: value}
    with pytest.raises(DatabaseError, match=r"is damaged.*heisd db build"):
        Manifest.read(write(tmp_path, json.dumps(values)))


def test_a_changed_number_is_noticed(tmp_path):
    text = complete().to_json().replace('"boundary": 0.3', '"boundary": 0.0')
    with pytest.raises(DatabaseError, match="changed after it was written"):
        Manifest.read(write(tmp_path, text))


@pytest.mark.parametrize("name", ["../keys.npy", "/etc/passwd", "shards/../../keys.npy"])
def test_a_path_out_of_the_database_is_refused(tmp_path, name):
    shard = ShardInfo("pick up the bowl", name, 15, 3)
    for manifest in (complete(files={name: "0" * 64}), complete(shards=(shard,))):
        with pytest.raises(DatabaseError, match="accepted: paths within the database"):
            Manifest.read(write(tmp_path, manifest.to_json()))


def test_another_format_is_named_before_its_fields_are_read(tmp_path):
    with pytest.raises(DatabaseError, match="format 99, this version reads 2; build it again"):
        Manifest.read(write(tmp_path, '{"format": 99, "new": true}'))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(shards=5), "shards is 5; accepted: a list"),
        (lambda v: v.update(shards=[5]), r"shards\[0\] is 5; accepted: a mapping"),
        (
            lambda v: v["shards"][0].update(folder=[]),
            r"shards\[0\]\.folder is \[\]; accepted",
        ),
        (
            lambda v: v["shards"][0].update(entries=-1),
            r"shards\[0\]\.entries is -1; accepted: 0 or more",
        ),
        (lambda v: v["shards"][0].update(entries=10**30), "accepted: a whole number below"),
        (lambda v: v["shards"].append(v["shards"][0]), "two shards are of one instruction"),
        (lambda v: v.update(files=[["a", "b"]]), "files is .*; accepted: a mapping"),
        (lambda v: v.update(robot=None), "robot is None; accepted: a text"),
        (lambda v: v.update(control_rate_hz=0), "control_rate_hz is 0; accepted: above 0"),
        (
            lambda v: v.update(control_rate_hz=float("nan")),
            "control_rate_hz is nan; accepted",
        ),
        (lambda v: v["features"].update(views="ab"), r"features\.views is 'ab'; accepted: a list"),
        (lambda v: v["features"].update(kept=10**6), r"features\.kept is 1000000; accepted: 0 to"),
        (lambda v: v.pop("files"), "it has no files"),
    ],
)
def test_a_value_that_no_database_has_is_named(tmp_path, change, message):
    values = json.loads(complete().to_json())
    change(values)
    with pytest.raises(DatabaseError, match=rf"manifest\.json is damaged: .*{message}") as error:
        Manifest.read(write(tmp_path, json.dumps(values)))
    assert "heisd db build" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("rate", [20, 20.0])
def test_a_rate_is_read_as_it_was_written(tmp_path, rate):
    manifest = complete(control_rate_hz=rate)
    assert Manifest.read(write(tmp_path, manifest.to_json())).control_rate_hz == 20

"""The manifest reads back as written, its id is its content, and a bad one is named."""

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
    manifest = dataclasses.replace(description(), **(fields | changes))
    return dataclasses.replace(manifest, database_id=manifest.content_id())


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


def test_a_missing_manifest_names_the_command(tmp_path):
    with pytest.raises(DatabaseError, match=r"holds no database.*heisd db build"):
        Manifest.read(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"format": 1}', "\udcff"])
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
    with pytest.raises(DatabaseError, match="format 99, this version reads 1; build it again"):
        Manifest.read(write(tmp_path, '{"format": 99, "new": true}'))

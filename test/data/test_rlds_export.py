"""RLDS data sets that we write: by a reader of its own here, and by TensorFlow Datasets."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.sources import MemorySource, smooth
from support.tfrecords import checksum, records

from heisd_ros.data.export_run import Choices
from heisd_ros.data.rlds_export import export_rlds
from heisd_ros.data.tfrecord import crc32c, example, write_record
from heisd_ros.errors import DemonstrationError

ODD = 'pick "up"\nthe ☕ bowl\t\\ ../{x}; \x00 done'


def episodes():
    person = np.arange(5) % 2 == 0
    return [
        smooth(5, 0, size=33, person=person, outcome="success"),
        smooth(5, 1, size=33, person=~person, outcome="failure", instruction=ODD),
        smooth(5, 2, size=33, person=person),
    ]


def state(episode):
    return np.float32(np.column_stack([episode.joint_positions, episode.gripper_opening]))


def shards(folder):
    return sorted((folder / "1.0.0").glob("*.tfrecord-*"))


@pytest.mark.parametrize("length", [4, 8, 2047, 2048, 2049, 10_000])
def test_checksums_are_those_of_the_definition(length):
    content = np.random.default_rng(length).bytes(length)
    mine = crc32c(content)
    assert ((mine >> 15 | mine << 17) + 0xA282EAD8) & 0xFFFFFFFF == checksum(content)
    assert crc32c(b"123456789") == 0xE3069283, "the published check value"


def test_numbers_of_every_kind_are_encoded(tmp_path):
    values = {
        "whole": np.array([0, 1, 127, 128, 2**40]),
        "flags": np.array([True, False]),
        "floats": np.array([[0.5, -1.0]], np.float32),
        "texts": [b"", "ä".encode(), b"x" * 300],
    }
    with (tmp_path / "x").open("wb") as file:
        write_record(file, example(values))
        write_record(file, example({"x": [b"y"]}))
    found, other = records(tmp_path / "x")
    assert found["whole"].tolist() == [0, 1, 127, 128, 2**40] and other == {"x": [b"y"]}
    assert found["flags"].tolist() == [1, 0] and found["floats"].tolist() == [0.5, -1.0]
    assert found["texts"] == values["texts"]


@pytest.mark.parametrize("pictures", ["jpeg", "png"])
def test_everything_is_there_step_by_step(tmp_path, pictures):
    done = export_rlds([MemorySource(episodes())], tmp_path / "set", Choices(pictures))
    assert (done.episodes, done.frames) == (3, 15)
    (shard,) = shards(tmp_path / "set")
    assert shard.name == "set-train.tfrecord-00000-of-00001"
    info = json.loads((shard.parent / "dataset_info.json").read_text())
    assert (info["name"], info["version"], info["fileFormat"]) == ("set", "1.0.0", "tfrecord")
    assert info["splits"][0]["shardLengths"] == ["3"]
    for number, found in enumerate(records(shard, check=pictures == "jpeg")):
        wanted = episodes()[number]
        np.testing.assert_array_equal(
            found["steps/action"].reshape(5, 7), wanted.actions.astype("f")
        )
        np.testing.assert_array_equal(found["steps/observation/state"].reshape(5, 8), state(wanted))
        assert found["steps/intervention"].tolist() == wanted.person.tolist()
        assert found["steps/language_instruction"] == [wanted.instruction.encode()] * 5
        assert found["steps/is_first"].tolist() == [1, 0, 0, 0, 0]
        assert found["steps/is_last"].tolist() == [0, 0, 0, 0, 1]
        assert found["steps/is_terminal"][-1] == (number < 2)
        assert found["steps/reward"].tolist() == [0, 0, 0, 0, number == 0]
        assert found["episode_metadata/outcome"] == [wanted.outcome.encode()]
        for view, images in wanted.images.items():
            for content, image in zip(found[f"steps/observation/{view}"], images, strict=True):
                read = np.array(Image.open(io.BytesIO(content)))
                assert np.abs(read.astype(int) - image).max() <= (0 if pictures == "png" else 2)


def test_a_killed_export_resumes_with_the_next_shard(tmp_path, monkeypatch):
    monkeypatch.setattr("heisd_ros.data.rlds_export._SHARD_BYTES", 1)
    export_rlds([MemorySource(episodes())], tmp_path / "whole")

    def killed(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_rlds([MemorySource(episodes())], tmp_path / "set", on_frames=killed)
    assert not (tmp_path / "set").exists()
    with pytest.raises(DemonstrationError, match="half of an export with other pictures"):
        export_rlds([MemorySource(episodes())], tmp_path / "set", Choices("png"))
    assert export_rlds([MemorySource(episodes())], tmp_path / "set").resumed == 1
    assert [path.name[-14:] for path in shards(tmp_path / "set")] == [
        "00000-of-00003", "00001-of-00003", "00002-of-00003",
    ]  # fmt: skip
    for mine, theirs in zip(shards(tmp_path / "set"), shards(tmp_path / "whole"), strict=True):
        assert mine.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(
    ("name", "pictures", "message"),
    [
        ("Set-1", "", "takes no name 'Set-1'; accepted: a small letter, then small letters"),
        ("set", "av1", "'av1' are not written; accepted: jpeg, png"),
    ],
)
def test_what_the_format_does_not_take_is_named(tmp_path, name, pictures, message):
    with pytest.raises(DemonstrationError, match=message):
        export_rlds([MemorySource(episodes())], tmp_path / name, Choices(pictures))
    assert not list(tmp_path.iterdir())


def test_an_episode_that_is_too_large_for_a_message_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("heisd_ros.data.tfrecord.MOST_BYTES", 1000)
    with pytest.raises(
        DemonstrationError, match=r"memory, episode 0: .* bytes; accepted: up to 1000"
    ):
        export_rlds([MemorySource(episodes())], tmp_path / "set")


TFDS = os.environ.get("HEISD_TFDS_PYTHON", "")


@pytest.mark.skipif(not TFDS, reason="HEISD_TFDS_PYTHON names no Python with tensorflow_datasets")
@pytest.mark.parametrize("pictures", ["jpeg", "png"])
def test_tensorflow_datasets_gives_the_same_steps(tmp_path, monkeypatch, pictures):
    monkeypatch.setattr("heisd_ros.data.rlds_export._SHARD_BYTES", 1)
    export_rlds([MemorySource(episodes())], tmp_path / "set", Choices(pictures))
    script = Path(__file__).parents[1] / "support/read_with_tfds.py"
    subprocess.run([TFDS, "-I", script, tmp_path / "set", tmp_path / "read.npz"], check=True)
    with np.load(tmp_path / "read.npz") as file:
        found = dict(file)
    assert found["episodes"] == 3
    for key, wanted in enumerate(episodes()):
        np.testing.assert_array_equal(found[f"{key}/action"], wanted.actions.astype("f"))
        np.testing.assert_array_equal(found[f"{key}/observation/state"], state(wanted))
        np.testing.assert_array_equal(found[f"{key}/intervention"], wanted.person)
        assert set(found[f"{key}/language_instruction"]) == {f"{wanted.instruction}|"}
        assert found[f"{key}/reward"].sum() == (wanted.outcome == "success")
        assert found[f"{key}/episode_metadata/outcome"] == f"{wanted.outcome}|"
        for view, images in wanted.images.items():
            off = np.abs(found[f"{key}/observation/{view}"].astype(int) - images)
            assert off.max() <= (0 if pictures == "png" else 2)

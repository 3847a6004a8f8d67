"""LeRobot data sets that we write: by our reader, by a reader of its own here, and by LeRobot's."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.bags import write_bag
from support.cell_bags import ARM, CAMERAS, layout, recording
from support.sources import MemorySource, smooth

from heisd_ros.data.bag_source import BagSource
from heisd_ros.data.export_notes import Notes
from heisd_ros.data.export_run import Choices
from heisd_ros.data.lerobot import LeRobotSource
from heisd_ros.data.lerobot_export import export_lerobot
from heisd_ros.data.video_file import CODECS, VideoFile

ODD = 'pick "up"\nthe ☕ bowl\t\\ ../{x}; \x00 done'
FEATURES = ("observation.images.agentview", "observation.images.wrist")
NUMBERS = ("actions", "joint_positions", "joint_velocities", "gripper_opening", "landmarks")


def marked(steps=6, seed=0, **changes):
    """An episode with everything that one may have."""
    person = np.arange(steps) % 3 == 1
    return smooth(
        steps, seed, **({"person": person, "outcome": ("success", "failure", "")[seed]} | changes)
    )


def episodes():
    return [marked(6, 0), marked(4, 1, instruction=ODD), marked(5, 2, init_state=None)]


def read_back(folder):
    return LeRobotSource(folder, Notes.read(folder).features, ARM)


def plainly(folder):
    """Everything in a data set, by frame, with nothing but pyarrow and PyAV: rows, pictures."""
    info = json.loads((folder / "meta/info.json").read_text())
    tasks = pq.read_table(folder / "meta/tasks.parquet").to_pylist()
    tasks = {row["task_index"]: row["task"] for row in tasks}
    table = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    rows, pictures = [], {name: [] for name in info["features"] if "images" in name}
    for about in table:
        place = {"chunk_index": about["data/chunk_index"], "file_index": about["data/file_index"]}
        found = pq.read_table(folder / info["data_path"].format(**place)).to_pylist()
        found = [row for row in found if row["episode_index"] == about["episode_index"]]
        assert len(found) == about["length"]
        rows += [row | {"task": tasks[row["task_index"]]} for row in found]
        for name, frames in pictures.items():
            if info["video_path"] is None:
                continue
            spot = {key: about[f"videos/{name}/{key}"] for key in ("chunk_index", "file_index")}
            with av.open(str(folder / info["video_path"].format(video_key=name, **spot))) as file:
                decoded = {
                    float(f.time): f.to_ndarray(format="rgb24") for f in file.decode(video=0)
                }
            start = about[f"videos/{name}/from_timestamp"]
            assert about[f"videos/{name}/to_timestamp"] == pytest.approx(
                start + about["length"] / info["fps"]
            )
            for row in found:
                times = np.array(list(decoded))
                nearest = times[np.abs(times - start - row["timestamp"]).argmin()]
                assert abs(nearest - start - row["timestamp"]) < 1e-4, "LeRobot's tolerance"
                frames.append(decoded[nearest])
    return info, table, rows, pictures


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "set"
    done = export_lerobot([MemorySource(episodes())], folder, Choices(robot_file="a: 1\n"))
    assert (done.episodes, done.frames, done.fps, done.stride) == (3, 15, 10.0, 2)
    return folder


def test_everything_is_there_frame_by_frame(exported):
    info, table, rows, pictures = plainly(exported)
    assert info["codebase_version"] == "v3.0" and info["robot_type"] == "panda"
    assert (info["fps"], info["total_episodes"], info["total_frames"]) == (10, 3, 15)
    assert info["total_tasks"] == 2 and info["splits"] == {"train": "0:3"}
    assert info["features"]["observation.state"]["names"] == [*ARM.joint_names, "gripper_opening"]
    assert info["features"][FEATURES[0]]["shape"] == [64, 64, 3]
    assert [row["index"] for row in rows] == list(range(15))
    assert [about["success"] for about in table] == [True, False, None]
    assert [about["init_state"] for about in table] == [7, 7, None]
    assert [about["source_episode"] for about in table] == [0, 1, 2]
    frame = 0
    for number, episode in enumerate(episodes()):
        for step in range(len(episode)):
            row = rows[frame]
            state = [*episode.joint_positions[step], episode.gripper_opening[step]]
            assert row["observation.state"] == np.float32(state).tolist()
            assert (
                row["observation.velocity"] == np.float32(episode.joint_velocities[step]).tolist()
            )
            assert row["action"] == np.float32(episode.actions[step]).tolist()
            assert row["intervention"] is (step % 3 == 1)
            assert row["timestamp"] == np.float32(step / 10)
            assert (row["frame_index"], row["episode_index"]) == (step, number)
            assert row["task"] == episode.instruction
            for name, images in zip(FEATURES, episode.images.values(), strict=True):
                off = np.abs(pictures[name][frame].astype(int) - images[step])
                assert off.mean() < 2, (number, step, name)
            frame += 1
    assert (exported / "meta/robot.yaml").read_text() == "a: 1\n"


def test_our_reader_gives_the_same_episodes(exported):
    source = read_back(exported)
    wanted = episodes()
    assert [(o.instruction, o.steps, o.outcome, o.person_steps) for o in source.outline()] == [
        (e.instruction, len(e), e.outcome, e.person.sum()) for e in wanted
    ]
    assert source.rate_hz == 20.0 and source.robot == "panda" and not source.report.dropped
    for number, episode in enumerate(wanted):
        found = source.episode(number, ("agentview", "wrist"))
        for name in NUMBERS:
            np.testing.assert_array_equal(
                getattr(found, name), np.float32(getattr(episode, name)), err_msg=name
            )
        np.testing.assert_array_equal(found.person, episode.person)
        assert (found.outcome, found.stride) == (episode.outcome, 2)
        for view, images in episode.images.items():
            assert np.abs(found.images[view].astype(int) - images).mean() < 2


def test_statistics_are_those_of_all_frames(exported):
    info, table, rows, _ = plainly(exported)
    statistics = json.loads((exported / "meta/stats.json").read_text())
    assert set(statistics) == set(info["features"])
    for name in ("action", "observation.state", "timestamp", "intervention"):
        values = np.array([row[name] for row in rows], np.float64).reshape(15, -1)
        found = statistics[name]
        np.testing.assert_allclose(found["mean"], values.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(found["std"], values.std(axis=0), atol=1e-9)
        np.testing.assert_allclose(found["q90"], np.quantile(values, 0.9, axis=0), atol=1e-9)
        assert found["min"] == values.min(axis=0).tolist() and found["count"] == [15]
        np.testing.assert_allclose(
            table[1][f"stats/{name}/max"], values[6:10].max(axis=0), atol=1e-9
        )
    shades = np.concatenate([e.images["wrist"][..., 0].ravel() for e in episodes()]) / 255
    found = statistics[FEATURES[1]]
    assert np.shape(found["mean"]) == (3, 1, 1) and found["count"] == [15]
    np.testing.assert_allclose(np.ravel(found["mean"]), shades.mean(), atol=1e-9)
    np.testing.assert_allclose(np.ravel(found["std"]), shades.std(), atol=1e-9)
    assert np.ravel(found["max"]).tolist() == [shades.max()] * 3
    np.testing.assert_allclose(np.ravel(found["q50"]), np.quantile(shades, 0.5), atol=0.02)


def test_png_loses_nothing_and_takes_odd_sizes(tmp_path):
    rng = np.random.default_rng(0)
    noise = {
        v: rng.integers(0, 256, (3, 31, 33, 3), dtype=np.uint8) for v in ("agentview", "wrist")
    }
    source = MemorySource([smooth(3, images=noise)])
    export_lerobot([source], tmp_path / "set", Choices("png"))
    info, _, rows, _ = plainly(tmp_path / "set")
    assert info["video_path"] is None and info["features"][FEATURES[0]]["dtype"] == "image"
    schema = pq.read_schema(tmp_path / "set/data/chunk-000/file-000.parquet")
    described = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert described[FEATURES[0]] == {"_type": "Image"} and list(described) == schema.names
    found = read_back(tmp_path / "set").episode(0, ("agentview", "wrist"))
    for view, name in zip(noise, FEATURES, strict=True):
        np.testing.assert_array_equal(found.images[view], noise[view])
        (tmp_path / "x.png").write_bytes(rows[2][name]["bytes"])
        np.testing.assert_array_equal(Image.open(tmp_path / "x.png"), noise[view][2])


@pytest.mark.parametrize("pictures", ["h264", "png"])
def test_many_episodes_take_several_files(tmp_path, monkeypatch, pictures):
    monkeypatch.setattr("heisd_ros.data.lerobot_group.LONGEST_SEC", 1.0)
    wanted = [marked(6, n % 3) for n in range(4)] + [marked(14, 1)]
    export_lerobot([MemorySource(wanted)], tmp_path / "set", Choices(pictures))
    _, table, rows, _ = plainly(tmp_path / "set")
    assert [about["data/file_index"] for about in table] == [0, 1, 2, 3, 4]
    assert len(rows) == 38
    monkeypatch.setattr("heisd_ros.data.lerobot_group.LONGEST_SEC", 1.2)
    export_lerobot([MemorySource(wanted)], tmp_path / "pairs", Choices(pictures))
    _, table, _, frames = plainly(tmp_path / "pairs")
    assert [about["data/file_index"] for about in table] == [0, 0, 1, 1, 2]
    if pictures == "h264":
        starts = [about[f"videos/{FEATURES[0]}/from_timestamp"] for about in table]
        assert starts == pytest.approx([0.0, 0.6, 0.0, 0.6, 0.0])
        shades = [frame.mean() for frame in frames[FEATURES[0]]]
        np.testing.assert_allclose(
            shades, np.concatenate([e.images["agentview"].mean(axis=(1, 2, 3)) for e in wanted]),
            atol=2,
        )  # fmt: skip
    found = read_back(tmp_path / "pairs").episode(3, ("agentview",))
    np.testing.assert_array_equal(found.actions, np.float32(wanted[3].actions))


def test_bags_are_exported_as_they_are_read(tmp_path):
    messages = recording(seconds=1.0, size=64)
    bags = [write_bag(tmp_path / name, messages) for name in ("a", "b")]
    sources = [BagSource(bag, layout()) for bag in bags]
    done = export_lerobot(sources, tmp_path / "set")
    assert (done.episodes, done.fps, done.stride) == (2, 20.0, 1)
    info, table, *_ = plainly(tmp_path / "set")
    assert [name for name in info["features"] if "images" in name] == [
        "observation.images.camera",
        "observation.images.wrist",
    ]
    assert "intervention" not in info["features"] and "success" not in table[0]
    assert [about["source"].split("/")[-1] for about in table] == ["a", "b"]
    wanted = sources[1].episode(0, CAMERAS)
    found = read_back(tmp_path / "set").episode(1, ("a", "b"))
    np.testing.assert_array_equal(found.actions, np.float32(wanted.actions))
    np.testing.assert_array_equal(found.joint_positions, np.float32(wanted.joint_positions))
    assert found.person is None and found.outcome == ""
    for mine, theirs in zip(found.images.values(), wanted.images.values(), strict=True):
        assert np.abs(mine.astype(int) - theirs).mean() < 2


def test_writing_a_video_makes_no_thread_a_real_time_one(tmp_path):
    """SVT-AV1 does so where root calls it."""
    video = VideoFile(tmp_path / "video.mp4", CODECS["av1"], Fraction(20))
    video.add(np.zeros((3, 64, 64, 3), np.uint8))
    policies = {os.sched_getscheduler(int(task)) for task in os.listdir("/proc/self/task")}
    video.add(np.zeros((3, 64, 64, 3), np.uint8))
    video.close()
    assert not (policies | {os.sched_getscheduler(0)}) & {os.SCHED_FIFO, os.SCHED_RR}


def test_a_rate_that_is_no_whole_number(tmp_path):
    wanted = [replace(marked(7, n), stride=3) for n in range(3)]
    done = export_lerobot([MemorySource(wanted)], tmp_path / "set", Choices("h264"))
    assert done.fps == pytest.approx(20 / 3)
    info, *_ = plainly(tmp_path / "set")
    assert info["fps"] == pytest.approx(20 / 3)
    source = read_back(tmp_path / "set")
    assert source.rate_hz == pytest.approx(20.0)
    assert len(source.episode(2, ("agentview", "wrist"))) == 7


LEROBOT = os.environ.get("HEISD_LEROBOT_PYTHON", "")


@pytest.mark.skipif(not LEROBOT, reason="HEISD_LEROBOT_PYTHON names no Python that has LeRobot")
@pytest.mark.parametrize("pictures", ["av1", "h264", "png"])
@pytest.mark.parametrize("stride", [2, 3])
def test_lerobots_own_reader_gives_the_same_frames(tmp_path, monkeypatch, pictures, stride):
    monkeypatch.setattr("heisd_ros.data.lerobot_group.LONGEST_SEC", 1.2)
    wanted = [replace(episode, stride=stride) for episode in episodes()]
    done = export_lerobot([MemorySource(wanted)], tmp_path / "set", Choices(pictures))
    script = Path(__file__).parents[1] / "support/read_with_lerobot.py"
    subprocess.run(
        [LEROBOT, "-I", script, tmp_path / "set", tmp_path / "read.npz"],
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
    )
    with np.load(tmp_path / "read.npz") as file:
        found = dict(file)
    assert found["fps"] == pytest.approx(done.fps) and found["robot"] == "panda"
    assert found["successful"].tolist() == [0]
    assert found["episodes/length"].tolist() == ["6", "4", "5"]

    def joined(rows):
        return np.concatenate([np.float32(rows(episode)) for episode in wanted])

    state = joined(lambda e: np.column_stack([e.joint_positions, e.gripper_opening]))
    np.testing.assert_array_equal(found["observation.state"], state)
    np.testing.assert_array_equal(found["action"], joined(lambda e: e.actions))
    np.testing.assert_array_equal(found["intervention"], joined(lambda e: e.person))
    np.testing.assert_array_equal(found["windows/action"][0, 3], wanted[0].actions[3].astype("f"))
    assert found["task"].tolist() == [e.instruction for e in wanted for _ in range(len(e))]
    for name, view in zip(FEATURES, ("agentview", "wrist"), strict=True):
        off = 255 * found[name].transpose(0, 2, 3, 1) - joined(lambda e, v=view: e.images[v])
        assert np.abs(off).mean(axis=(1, 2, 3)).max() < (1e-3 if pictures == "png" else 2)
    np.testing.assert_allclose(
        found["stats/action/mean"], joined(lambda e: e.actions).mean(axis=0), atol=1e-6
    )

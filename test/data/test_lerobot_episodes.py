"""Every frame of a LeRobot set gets its own instruction, or is left out and counted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cell_bags import ARM
from support.lerobots import CAMERAS, LENGTHS, MAP, TASKS, second, third

from heisd_ros.data.lerobot import LeRobotSource
from heisd_ros.errors import DemonstrationError

OTHER = "close the drawer"
BOTH = [(TASKS[0], LENGTHS[0]), (TASKS[1], LENGTHS[1])]


def opened(folder):
    return LeRobotSource(folder, MAP, ARM)


def found(folder):
    return [(episode.instruction, episode.steps) for episode in opened(folder).outline()]


def table_of(folder, number=0):
    return next(
        path for path in sorted(folder.rglob("data/*/*.parquet")) if not number or "1" in path.stem
    )


def change_table(path, **columns):
    """Puts columns into a table; None takes one out."""
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.drop_columns([name]) if name in table.column_names else table
        if values is not None:
            table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)


def change_info(folder, **values):
    place = folder / "meta/info.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | values))


def task_indexes(path, first):
    numbers = pq.read_table(path)["task_index"].to_pylist()
    return [*first, *numbers[len(first) :]]


def name_tasks(folder, tasks):
    if "episodes.jsonl" in os.listdir(folder / "meta"):
        lines = [json.dumps({"task_index": i, "task": task}) for i, task in enumerate(tasks)]
        (folder / "meta/tasks.jsonl").write_text("\n".join(lines) + "\n\n")
    else:
        table = pa.table({"task_index": range(len(tasks)), "__index_level_0__": tasks})
        pq.write_table(table, folder / "meta/tasks.parquet")


@pytest.mark.parametrize("write", [second, third])
def test_an_episode_of_two_tasks_is_two(tmp_path, write):
    folder = write(tmp_path / "set")
    name_tasks(folder, [*TASKS[:2], OTHER])
    table = table_of(folder)
    change_table(table, task_index=task_indexes(table, [0] * 5 + [2] * 6 + [0]))
    source = opened(folder)
    assert found(folder) == [(TASKS[0], 5), (OTHER, 6), (TASKS[1], 9)]
    outline = source.outline()
    assert outline[0].ended_by == "another instruction" and outline[2].ended_by == ""
    assert source.report.dropped["episode of fewer than 2 steps"] == 2
    whole = opened(write(tmp_path / "plain")).episode(0, ("a",))
    part = source.episode(1, ("a",))
    np.testing.assert_array_equal(part.actions, whole.actions[5:11])
    np.testing.assert_array_equal(part.images["a"], whole.images["a"][5:11])


def test_two_tasks_that_rows_do_not_tell_apart_are_left_out(tmp_path):
    folder = second(tmp_path / "set")
    place = folder / "meta/episodes.jsonl"
    place.write_text(place.read_text().replace(f'["{TASKS[0]}"]', f'["{TASKS[0]}", "{OTHER}"]', 1))
    change_table(table_of(folder), task_index=None)
    source = opened(folder)
    assert [e.instruction for e in source.outline()] == [TASKS[1]]
    reason = "episode: it has several tasks, and its rows no task_index"
    assert source.report.dropped[reason] == 1


def test_tasks_without_a_name_are_left_out(tmp_path):
    folder = second(tmp_path / "set")
    name_tasks(folder, TASKS[:2])
    change_table(table_of(folder), task_index=[0] * 6 + [7] * 6)
    source = opened(folder)
    assert [e.instruction for e in source.outline()] == [TASKS[1]]
    assert source.report.dropped["episode: it has rows without an instruction"] == 1


def gone(table):
    table.unlink()


def damaged(table):
    table.write_bytes(table.read_bytes()[:-20])


def folder_instead(table):
    table.unlink()
    table.mkdir()


def pipe(table):
    table.unlink()
    os.mkfifo(table)


def short(table):
    pq.write_table(pq.read_table(table).slice(0, 7), table)


def with_nan(table):
    change_table(table, action=[[float("nan")] * 7] * LENGTHS[0])


def with_gap(table):
    change_table(table, frame_index=[*range(5), *range(6, 13)])


def with_other_times(table):
    change_table(table, timestamp=[0.5 * n for n in range(LENGTHS[0])])


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (gone, "its table is missing or damaged"),
        (damaged, "its table is missing or damaged"),
        (folder_instead, "its table is missing or damaged"),
        (pipe, "its table is missing or damaged"),
        (short, "its table has another number of rows than it is said to have"),
        (with_nan, "its numbers are not all finite"),
        (with_gap, "its frames are not a step apart"),
        (with_other_times, "its frames are not a step apart"),
    ],
)
def test_episodes_that_cannot_be_used_are_counted_and_the_first_is_named(tmp_path, harm, reason):
    folder = second(tmp_path / "set")
    harm(table_of(folder))
    source = opened(folder)
    assert [e.instruction for e in source.outline()] == [TASKS[1]]
    assert source.report.dropped[f"episode: {reason}"] == 1
    (remark,) = source.report.remarks
    assert remark.startswith("first episode left out: 0, ")
    assert len(source.episode(0, ("a", "b"))) == LENGTHS[1]


def test_a_set_without_a_usable_episode_says_why(tmp_path):
    folder = second(tmp_path / "set")
    shutil.rmtree(folder / "data")
    with pytest.raises(DemonstrationError, match=r"set holds no episode: 3 x .*0, .*is missing"):
        opened(folder).outline()
    (folder / "meta/episodes.jsonl").write_text("\n")
    with pytest.raises(DemonstrationError, match="set holds no episode: none is listed"):
        opened(folder).outline()


@pytest.mark.parametrize("write", [second, third])
def test_fewer_episodes_than_counted_are_said(tmp_path, write):
    folder = write(tmp_path / "set")
    change_info(folder, total_episodes=5)
    source = opened(folder)
    assert len(source.outline()) == 2
    assert source.report.damage == "meta/info.json counts 5 episodes, 3 are listed"


def test_version_2_0_is_read(tmp_path):
    folder = second(tmp_path / "set")
    change_info(folder, codebase_version="v2.0")
    assert found(folder) == BOTH


@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_blank_lines_and_byte_order_marks_are_skipped(tmp_path, begin):
    folder = second(tmp_path / "set")
    place = folder / "meta/episodes.jsonl"
    lines = place.read_text().splitlines()
    place.write_text(begin + f"{lines[0]}\n\n  \n{lines[1]}\r\n{lines[2]}\n\n")
    assert found(folder) == BOTH


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"episode_index": 1, "tas', "Unterminated string"),
        ("[1]", "it is .1.; accepted: an object"),
        ('{"episode_index": 1, "length": 9}', "'tasks' is missing; accepted: list"),
        ('{"tasks": ["x"], "length": 9}', "'episode_index' is missing; accepted: int"),
        ('{"episode_index": 1, "tasks": ["x"], "length": "9"}', "'length' is '9'; accepted: int"),
        ('{"episode_index": 1, "tasks": "x", "length": 9}', "'tasks' is 'x'; accepted: list"),
        ("[" * 100_000, ""),
        ("x" * 2_000_000, "has more than 1 MiB"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, line, message):
    folder = second(tmp_path / "set")
    place = folder / "meta/episodes.jsonl"
    lines = place.read_text().splitlines()
    place.write_text("\n".join([lines[0], "", line, lines[2]]))
    with pytest.raises(DemonstrationError, match=rf"episodes\.jsonl.*line 3.*{message}") as caught:
        opened(folder).outline()
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


@pytest.mark.parametrize("write", [second, third])
def test_a_list_of_episodes_that_is_missing_is_named(tmp_path, write):
    folder = write(tmp_path / "set")
    for place in (folder / "meta").glob("episodes*"):
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(DemonstrationError, match=r"meta/episodes"):
        opened(folder).outline()


def test_a_joint_column_of_another_width_is_refused(tmp_path):
    features = type(MAP)(**{**vars(MAP), "joint_positions": "observation.state[0:6]"})
    with pytest.raises(DemonstrationError, match="has 6 numbers; accepted: 7, a number for each"):
        LeRobotSource(third(tmp_path / "set"), features, ARM).outline()


@pytest.mark.parametrize("write", [second, third])
def test_a_cache_of_links_is_read(tmp_path, write):
    """Hugging Face's cache: each file of a snapshot is a link into ../../blobs."""
    plain = write(tmp_path / "plain")
    snapshot, blobs = tmp_path / "cache/snapshots/0123", tmp_path / "cache/blobs"
    blobs.mkdir(parents=True)
    for file in [path for path in plain.rglob("*") if path.is_file()]:
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        link = snapshot / file.relative_to(plain)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    assert found(snapshot) == BOTH
    assert len(opened(snapshot).episode(1, CAMERAS).images) == 2

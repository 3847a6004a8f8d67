"""LeRobot data sets of both versions, in the layout that huggingface/lerobot writes."""

from __future__ import annotations

import json

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from heisd_ros.data.lerobot import FeatureMap

FPS = 10
LENGTHS = (12, 9, 1)
TASKS = ("pick up the bowl", "open the drawer", "pick up the bowl")
CAMERAS = ("observation.images.top", "observation.images.wrist")
MAP = FeatureMap(
    joint_positions="observation.state[0:7]",
    gripper_opening="observation.state[7:9]",
    actions="action",
    robot="panda",
)


def rows(episode):
    rng = np.random.default_rng(episode)
    steps = LENGTHS[episode]
    state = rng.uniform(-1, 1, (steps, 9)).astype(np.float32)
    state[:, 7:] = [0.02, -0.01]
    return {
        "observation.state": state,
        "action": rng.uniform(-1, 1, (steps, 7)).astype(np.float32),
        "timestamp": (np.arange(steps) / FPS).astype(np.float32),
        "frame_index": np.arange(steps),
        "episode_index": np.full(steps, episode),
        "task_index": np.full(steps, TASKS.index(TASKS[episode])),
    }


def shade(episode, step, camera):
    return 20 + 15 * step + 3 * episode + 40 * camera


def write_table(path, *episodes):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {}
    for name in rows(0):
        joined = np.concatenate([rows(episode)[name] for episode in episodes])
        columns[name] = pa.array(joined.tolist() if joined.ndim > 1 else joined)
    pq.write_table(pa.table(columns), path)


def write_video(path, camera, *episodes):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for episode in episodes:
            for step in range(LENGTHS[episode]):
                pixels = np.full((64, 64, 3), shade(episode, step, camera), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_info(folder, version, data_path, video_path):
    features = {
        **{name: {"dtype": "video", "shape": [64, 64, 3]} for name in CAMERAS},
        "observation.state": {"dtype": "float32", "shape": [9]},
        "action": {"dtype": "float32", "shape": [7]},
    }
    info = {
        "codebase_version": version,
        "robot_type": "franka",
        "fps": FPS,
        "chunks_size": 1000,
        "features": features,
        "data_path": data_path,
        "video_path": video_path,
    }
    (folder / "meta").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info))


def second(folder):
    """Version 2.1: an episode a file."""
    write_info(
        folder, "v2.1",
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    )  # fmt: skip
    lines = []
    for number, (task, length) in enumerate(zip(TASKS, LENGTHS, strict=True)):
        write_table(folder / f"data/chunk-000/episode_{number:06d}.parquet", number)
        for camera, name in enumerate(CAMERAS):
            write_video(
                folder / f"videos/chunk-000/{name}/episode_{number:06d}.mp4", camera, number
            )
        lines.append(json.dumps({"episode_index": number, "tasks": [task], "length": length}))
    (folder / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def third(folder):
    """Version 3: all episodes in one file."""
    write_info(
        folder, "v3.0",
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    )  # fmt: skip
    write_table(folder / "data/chunk-000/file-000.parquet", 0, 1, 2)
    about, start = [], 0.0
    for number, (task, length) in enumerate(zip(TASKS, LENGTHS, strict=True)):
        row = {"episode_index": number, "tasks": [task], "length": length}
        row |= {"data/chunk_index": 0, "data/file_index": 0}
        for name in CAMERAS:
            row |= {f"videos/{name}/chunk_index": 0, f"videos/{name}/file_index": 0}
            row |= {f"videos/{name}/from_timestamp": start}
            row |= {f"videos/{name}/to_timestamp": start + length / FPS}
        about.append(row)
        start += length / FPS
    for camera, name in enumerate(CAMERAS):
        write_video(folder / f"videos/{name}/chunk-000/file-000.mp4", camera, 0, 1, 2)
    place = folder / "meta/episodes/chunk-000/file-000.parquet"
    place.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(about), place)
    return folder

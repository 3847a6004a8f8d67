"""Reads a data set with LeRobot's own reader and writes what it gives to an .npz file.

Run by a Python that has `lerobot[dataset]`; it imports nothing of ours:

    python read_with_lerobot.py DATASET OUT.npz [pyav|torchcodec]
"""

from __future__ import annotations

import sys

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def main(folder, out, backend="pyav"):
    data = LeRobotDataset("local/exported", root=folder, video_backend=backend)
    frames = [data[number] for number in range(len(data))]
    arrays = {
        key: np.stack([np.asarray(frame[key]) for frame in frames])
        for key in frames[0]
        if key != "task"
    }
    arrays["task"] = np.array([frame["task"] for frame in frames])
    for feature, statistics in data.meta.stats.items():
        arrays |= {f"stats/{feature}/{key}": value for key, value in statistics.items()}
    episodes = data.meta.episodes
    for key in ("length", "success", "source", "source_episode"):
        if key in episodes.features:
            arrays[f"episodes/{key}"] = np.array(episodes[key], dtype=object).astype(str)
    arrays |= {"fps": np.array(data.fps), "robot": np.array(data.meta.robot_type)}
    arrays["successful"] = np.array(
        data.meta.filter_episodes(lambda episode: bool(episode.get("success")))
    )
    # A window over neighbouring frames, as policies are trained with.
    window = {key: [-1 / data.fps, 0.0] for key in data.meta.camera_keys} | {
        "action": [step / data.fps for step in range(4)]
    }
    data = LeRobotDataset(
        "local/exported", root=folder, video_backend=backend, delta_timestamps=window
    )
    arrays["windows/action"] = np.stack([np.asarray(data[n]["action"]) for n in range(len(data))])
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])

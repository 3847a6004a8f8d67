"""LIBERO's demonstration files (robomimic's HDF5 layout): reading and writing.

One file a task, `<task>_demo.hdf5`, with groups `data/demo_0`, `data/demo_1`, ... The public LIBERO
demonstrations and ours load through the same reader. Ours hold, beyond LIBERO's data sets, joint
velocities and the positions of item and target, and may hold every n-th step only (`stride`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from heisd_ros.data.episode import Episode
from heisd_ros.errors import DemonstrationError

_VIEWS = {"agentview": "agentview_rgb", "wrist": "eye_in_hand_rgb"}
"""View name to LIBERO's data set. LIBERO stores images bottom row first; an Episode is upright."""


class LiberoWriter:
    """Appends episodes to one task's file, each complete on disk before the next.

    Args:
        path: File to create or to continue.
        instruction: The task's instruction.
        bddl_file: LIBERO's problem file of the task, kept as its files keep it.
        environment: The settings the episodes were made with, stored as JSON in `env_args`.
    """

    def __init__(self, path: Path, instruction: str, bddl_file: str, environment: dict) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(path, "a")
        self._data = self._file.require_group("data")
        self._data.attrs["problem_info"] = json.dumps({"language_instruction": instruction})
        self._data.attrs["bddl_file_name"] = bddl_file
        self._data.attrs["env_args"] = json.dumps(environment)
        self._data.attrs["tag"] = "libero-v1"
        # A demo without its closing mark was cut off while it was written.
        for name in [n for n in self._data if "num_samples" not in self._data[n].attrs]:
            del self._data[name]

    def __enter__(self) -> LiberoWriter:
        """Opens the writer as a context."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file."""
        self._file.close()

    @property
    def grasp_candidate(self) -> int | None:
        """Which of the expert's grasps the file's episodes use, once that is chosen."""
        return _optional_index(self._data, "grasp_candidate")

    @grasp_candidate.setter
    def grasp_candidate(self, candidate: int) -> None:
        self._data.attrs["grasp_candidate"] = candidate

    def seeds(self) -> set[int]:
        """Seeds of the episodes already in the file."""
        return {int(demo.attrs["seed"]) for demo in self._data.values() if "seed" in demo.attrs}

    def add(self, episode: Episode, seed: int, states: np.ndarray, model_xml: str) -> None:
        """Writes one episode.

        Args:
            episode: The episode.
            seed: What it was made from; `seeds` gives it back when a run is resumed.
            states: (T, S) flattened simulator states.
            model_xml: The scene's MJCF.
        """
        demo = self._data.create_group(f"demo_{len(self._data)}")
        steps = len(episode)
        demo.create_dataset("actions", data=episode.actions)
        demo.create_dataset("states", data=states)
        demo.create_dataset("rewards", data=np.eye(1, steps, steps - 1, dtype=np.uint8)[0])
        demo.create_dataset("dones", data=np.eye(1, steps, steps - 1, dtype=np.uint8)[0])
        obs = demo.create_group("obs")
        for view, name in _VIEWS.items():
            obs.create_dataset(name, data=episode.images[view][:, ::-1])
        half = episode.gripper_opening[:, None] / 2
        obs.create_dataset("gripper_states", data=np.concatenate([half, -half], axis=1))
        obs.create_dataset("joint_states", data=episode.joint_positions)
        if episode.joint_velocities is not None:
            obs.create_dataset("joint_velocities", data=episode.joint_velocities)
        if episode.landmarks is not None:
            obs.create_dataset("landmarks", data=episode.landmarks)
        demo.attrs["init_state"] = states[0]
        demo.attrs["model_file"] = model_xml
        demo.attrs["seed"] = seed
        demo.attrs["stride"] = episode.stride
        if episode.init_state is not None:
            demo.attrs["init_state_index"] = episode.init_state
        demo.attrs["num_samples"] = steps
        self._data.attrs["num_demos"] = len(self._data)
        self._data.attrs["total"] = sum(int(d.attrs["num_samples"]) for d in self._data.values())
        self._file.flush()


def read_episodes(path: Path, views: tuple[str, ...] = ("agentview", "wrist")) -> Iterator[Episode]:
    """Yields the episodes of one file in LIBERO's layout.

    Args:
        path: A `*_demo.hdf5` file.
        views: Which views to read, of `agentview` and `wrist`.

    Raises:
        DemonstrationError: The file is missing, is no HDF5, or lacks something of the layout.
    """
    unknown = [view for view in views if view not in _VIEWS]
    if unknown:
        raise DemonstrationError(f"views {unknown} are unknown; accepted: {sorted(_VIEWS)}")
    try:
        file = h5py.File(path, "r")
    except (FileNotFoundError, OSError) as error:
        raise DemonstrationError(f"{path} cannot be read as HDF5: {error}") from error
    with file:
        try:
            data = file["data"]
            instruction = _instruction(data.attrs["problem_info"])
            for name in sorted(data, key=lambda demo: int(demo.split("_")[1])):
                if "num_samples" in data[name].attrs:
                    yield _read_episode(data[name], instruction, views)
        except (KeyError, OSError) as error:
            raise DemonstrationError(f"{path} is not in LIBERO's layout: {error}") from error


def _read_episode(demo: h5py.Group, instruction: str, views: tuple[str, ...]) -> Episode:
    obs = demo["obs"]
    return Episode(
        instruction=instruction,
        images={view: obs[_VIEWS[view]][:][:, ::-1] for view in views},
        actions=np.asarray(demo["actions"], dtype=np.float64),
        joint_positions=np.asarray(obs["joint_states"], dtype=np.float64),
        joint_velocities=_optional(obs, "joint_velocities"),
        gripper_opening=np.abs(np.asarray(obs["gripper_states"], dtype=np.float64)).sum(axis=1),
        landmarks=_optional(obs, "landmarks"),
        init_state=_optional_index(demo, "init_state_index"),
        stride=int(demo.attrs.get("stride", 1)),
    )


def _optional(group: h5py.Group, name: str) -> np.ndarray | None:
    return np.asarray(group[name], dtype=np.float64) if name in group else None


def _optional_index(group: h5py.Group, name: str) -> int | None:
    return int(group.attrs[name]) if name in group.attrs else None


def _instruction(problem_info: str) -> str:
    """LIBERO's files hold the instruction as a string, or as a list of its characters."""
    language = json.loads(problem_info)["language_instruction"]
    return "".join(language).strip('"')

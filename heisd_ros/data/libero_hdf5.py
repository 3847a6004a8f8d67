"""LIBERO's demonstration files (robomimic's HDF5 layout): reading and writing.

One file a task, `<task>_demo.hdf5`, with groups `data/demo_0`, `data/demo_1`, ... The public LIBERO
demonstrations and ours load through the same reader. Ours hold, beyond LIBERO's data sets, joint
velocities and the positions of item and target, and may hold every n-th step only (`stride`).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np

from heisd_ros.data.episode import Episode
from heisd_ros.errors import DemonstrationError

VIEWS = {"agentview": "agentview_rgb", "wrist": "eye_in_hand_rgb"}
"""View name to LIBERO's data set. LIBERO stores images bottom row first; an Episode is upright."""
_CLOSED = "num_samples"
"""A demo's attribute that is written last: a demo without it was cut off."""
_HDF5_ERRORS = (KeyError, OSError, RuntimeError, TypeError)
"""What h5py raises on damage, on a name that is not there, and on a group that is a data set."""


class LiberoWriter:
    """Appends episodes to one task's file.

    HDF5 changes a file in place, and one whose writing was cut off may not open again. So a change
    is made to a copy, which then takes the file's place: a process that is killed leaves the file
    as it was before or after an episode, and others may read it at any time.

    Args:
        path: File to create or to continue.
        instruction: The task's instruction.
        bddl_file: LIBERO's problem file of the task, kept as its files keep it.
        environment: The settings the episodes were made with, stored as JSON in `env_args`.

    Raises:
        DemonstrationError: The file exists and cannot be continued, or another process is writing
            it. Every method may raise it.
    """

    def __init__(self, path: Path, instruction: str, bddl_file: str, environment: dict) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._changed() as data:
            data.attrs["problem_info"] = json.dumps({"language_instruction": instruction})
            data.attrs["bddl_file_name"] = bddl_file
            data.attrs["env_args"] = json.dumps(environment)
            data.attrs["tag"] = "libero-v1"

    @property
    def grasp_candidate(self) -> int | None:
        """Which of the expert's grasps the file's episodes use, once that is chosen."""
        with self._read() as data:
            return _optional_index(data, "grasp_candidate")

    @grasp_candidate.setter
    def grasp_candidate(self, candidate: int) -> None:
        with self._changed() as data:
            data.attrs["grasp_candidate"] = candidate

    def seeds(self) -> set[int]:
        """Seeds of the episodes already in the file."""
        with self._read() as data:
            return {int(demo.attrs["seed"]) for demo in data.values() if "seed" in demo.attrs}

    def add(self, episode: Episode, seed: int, states: np.ndarray, model_xml: str) -> None:
        """Writes one episode.

        Args:
            episode: The episode.
            seed: What it was made from; `seeds` gives it back when a run is resumed.
            states: (T, S) flattened simulator states.
            model_xml: The scene's MJCF.
        """
        with self._changed() as data:
            _write_episode(data, episode, seed, states, model_xml)

    @contextmanager
    def _read(self) -> Iterator[h5py.Group]:
        """Opens the group of all demos."""
        with ExitStack() as stack:
            with self._refusal():
                data = stack.enter_context(h5py.File(self._path))["data"]
            yield data

    @contextmanager
    def _changed(self) -> Iterator[h5py.Group]:
        """Opens the group of all demos in a copy that replaces the file, unless an error is raised.

        Demos that were not written to their end are left out.
        """
        part = self._path.with_name(f"{self._path.name}.part")
        with ExitStack() as stack:
            with self._refusal():
                stack.enter_context(_sole_writer(part))
                mode = "w"
                if self._path.exists():
                    shutil.copyfile(self._path, part)
                    mode = "a"
                # The lock is held already, by another handle than HDF5's.
                file = stack.enter_context(h5py.File(part, mode, locking=False))
                data = file.require_group("data")
                for name in [name for name in data if _CLOSED not in data[name].attrs]:
                    del data[name]
            yield data
            file.close()
            part.replace(self._path)

    @contextmanager
    def _refusal(self) -> Iterator[None]:
        try:
            yield
        except _HDF5_ERRORS as error:
            raise DemonstrationError(
                f"{self._path} cannot be continued: {error}. Unless another process is writing "
                "it, move it away; the recording then begins anew"
            ) from error


@contextmanager
def _sole_writer(path: Path) -> Iterator[None]:
    """Makes a file that no other process writes meanwhile; an error removes it.

    A process that is killed leaves the file behind and its lock not, so the next one takes it over.

    Raises:
        OSError: Another process has the file.
    """
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The other process may have renamed or removed what was opened here.
        if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise BlockingIOError(f"{path} was renamed by another process")
        try:
            yield
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _write_episode(
    data: h5py.Group, episode: Episode, seed: int, states: np.ndarray, model_xml: str
) -> None:
    demo = data.create_group(f"demo_{len(data)}")
    steps = len(episode)
    demo.create_dataset("actions", data=episode.actions)
    demo.create_dataset("states", data=states)
    demo.create_dataset("rewards", data=np.eye(1, steps, steps - 1, dtype=np.uint8)[0])
    demo.create_dataset("dones", data=np.eye(1, steps, steps - 1, dtype=np.uint8)[0])
    obs = demo.create_group("obs")
    for view, name in VIEWS.items():
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
    demo.attrs[_CLOSED] = steps
    data.attrs["num_demos"] = len(data)
    data.attrs["total"] = sum(int(d.attrs[_CLOSED]) for d in data.values())


def read_episodes(path: Path, views: tuple[str, ...] = ("agentview", "wrist")) -> Iterator[Episode]:
    """Yields the episodes of one file in LIBERO's layout.

    Args:
        path: A `*_demo.hdf5` file.
        views: Which views to read, of `agentview` and `wrist`.

    Raises:
        DemonstrationError: The file is missing, is no HDF5, or lacks something of the layout.
    """
    with _demos(path, views) as (demos, instruction):
        for demo in demos:
            yield _read_episode(demo, instruction, views)


def read_episode(path: Path, number: int, views: tuple[str, ...]) -> Episode:
    """One of the episodes that `read_episodes` yields, without reading the others.

    Args:
        path: A `*_demo.hdf5` file.
        number: Which, from 0.
        views: Which views to read, of `agentview` and `wrist`.

    Raises:
        DemonstrationError: As `read_episodes`; or there is no such episode.
    """
    with _demos(path, views) as (demos, instruction):
        return _read_episode(demos[number], instruction, views)


@contextmanager
def _demos(path: Path, views: tuple[str, ...]) -> Iterator[tuple[list[h5py.Group], str]]:
    """A file's demos that were written to their end, and its instruction."""
    unknown = [view for view in views if view not in VIEWS]
    if unknown:
        raise DemonstrationError(f"views {unknown} are unknown; accepted: {sorted(VIEWS)}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DemonstrationError(f"{path} cannot be read as HDF5: {error}") from error
    with file:
        try:
            data = file["data"]
            names = sorted(data, key=lambda demo: int(demo.split("_")[1]))
            demos = [data[name] for name in names if _CLOSED in data[name].attrs]
            yield demos, _instruction(data.attrs["problem_info"])
        except (*_HDF5_ERRORS, AttributeError, IndexError, ValueError) as error:
            raise DemonstrationError(f"{path} is not in LIBERO's layout: {error}") from error


def _read_episode(demo: h5py.Group, instruction: str, views: tuple[str, ...]) -> Episode:
    obs = demo["obs"]
    if obs["joint_states"].shape[1:] != (7,):
        raise ValueError(f"joint_states are of shape {obs['joint_states'].shape}, not (T, 7)")
    return Episode(
        instruction=instruction,
        images={view: obs[VIEWS[view]][:][:, ::-1] for view in views},
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

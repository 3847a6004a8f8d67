"""LIBERO's demonstration files (robomimic's HDF5 layout): writing. `demo_files` reads them.

Ours hold, beyond LIBERO's data sets, joint velocities and the positions of item and target, and may
hold every n-th step only (`stride`), the steps in which a person had the arm (`person`) and how the
episode ended (`outcome`).
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

from heisd_ros.data.demo_files import (
    CLOSED,
    PERSON,
    REASONING,
    VIEWS,
    optional_index,
    read_episode,
    read_episodes,
)
from heisd_ros.data.episode import Episode
from heisd_ros.errors import DemonstrationError
from heisd_ros.files.atomic import put_in_place

__all__ = ["VIEWS", "LiberoWriter", "read_episode", "read_episodes"]

_HDF5_ERRORS = (KeyError, OSError, RuntimeError, TypeError)
"""What h5py raises on damage, on a name that is not there, and on a group that is a data set."""


class LiberoWriter:
    """Appends episodes to one task's file.

    HDF5 changes a file in place, and a file whose writing was interrupted may not open again. So a
    change is made to a copy, which then replaces the file: if the process is killed, the file is as
    before or after an episode, and others may read it at any time.

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
        """Number of the expert's grasp that the file's episodes use; None until it is chosen."""
        with self._read() as data:
            return optional_index(data, "grasp_candidate")

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
                for name in [name for name in data if CLOSED not in data[name].attrs]:
                    del data[name]
            yield data
            file.close()
            put_in_place(part, self._path)

    @contextmanager
    def _refusal(self) -> Iterator[None]:
        try:
            yield
        except _HDF5_ERRORS as error:
            raise DemonstrationError(
                f"{self._path} cannot be continued: {error}. Unless another process is writing "
                "it, move it away; the recording then starts a new file"
            ) from error


@contextmanager
def _sole_writer(path: Path) -> Iterator[None]:
    """Makes a file that no other process writes meanwhile; an error removes it.

    A process that is killed leaves the file but not its lock, so the next process takes it over.

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
    reward = np.eye(1, steps, steps - 1, dtype=np.uint8)[0] * (episode.outcome != "failure")
    demo.create_dataset("rewards", data=reward.astype(np.uint8))
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
    if episode.person is not None:
        demo.create_dataset(PERSON, data=episode.person.astype(np.uint8))
    if episode.reasoning is not None:
        demo.create_dataset(REASONING, data=episode.reasoning, dtype=h5py.string_dtype())
    if episode.outcome:
        demo.attrs["outcome"] = episode.outcome
    demo.attrs["init_state"] = states[0]
    demo.attrs["model_file"] = model_xml
    demo.attrs["seed"] = seed
    demo.attrs["stride"] = episode.stride
    if episode.init_state is not None:
        demo.attrs["init_state_index"] = episode.init_state
    demo.attrs[CLOSED] = steps
    data.attrs["num_demos"] = len(data)
    data.attrs["total"] = sum(int(d.attrs[CLOSED]) for d in data.values())

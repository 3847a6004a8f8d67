"""Demonstrations in HDF5, as LIBERO, OpenVLA's scripts for it, robomimic and we write them.

There is one file per task, with groups `data/demo_0`, `data/demo_1`, ... Writers differ in the
names of the data sets, in the orientation of the images, and in the attributes.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from heisd_ros.data.episode import Episode
from heisd_ros.data.marks import Outcome
from heisd_ros.data.text_files import one_line
from heisd_ros.errors import DemonstrationError, HeisdError

VIEWS = {"agentview": "agentview_rgb", "wrist": "eye_in_hand_rgb"}
"""View name to LIBERO's data set. LIBERO stores images bottom row first; an Episode is upright."""
PERSON = "person"
"""Data set of a demo, (T,) flags: the steps in which a person had the arm."""
REASONING = "reasoning"
"""Data set of a demo, (T,) strings: what a reasoning model is to say at each step."""
CLOSED = "num_samples"
"""The attribute of a demo that is written last: if others have it, one without it is truncated."""
_DEMO = re.compile(r"demo_(\d+)")
_TASK = re.compile(r"(?:[A-Z_]+_SCENE\d+_)?(\w+)_demo\.hdf5")
_STEPS, _BYTES, _RATIO = 100_000, 1 << 29, 200
"""Limits: steps of an episode; bytes of a data set; their ratio to the bytes stored."""
_LONGEST_STRIDE = 1000
"""Control steps from one recorded step to the next, at most."""


@dataclass(frozen=True)
class _Names:
    """The names of the data sets in one kind of file.

    Attributes:
        views: Pictures by view.
        joints: The arm's joint positions, rad.
        velocities: The joint velocities, rad/s.
        fingers: The finger joints, m.
        upright: Whether pictures are stored top row first.
    """

    views: dict[str, str]
    joints: str
    velocities: str
    fingers: str
    upright: bool


_LIBERO = _Names(VIEWS, "joint_states", "joint_velocities", "gripper_states", False)
_ROBOMIMIC = _Names(
    {"agentview": "agentview_image", "wrist": "robot0_eye_in_hand_image"},
    "robot0_joint_pos",
    "robot0_joint_vel",
    "robot0_gripper_qpos",
    True,
)


@dataclass
class DemoFile:
    """An open file.

    Attributes:
        demos: The demonstrations that were written to their end, in order.
        instruction: The task in words.
        cut: Number of demonstrations that are incomplete; they are left out.
        remarks: Remarks on the file, one line each.
    """

    demos: list[h5py.Group]
    instruction: str
    cut: int = 0
    remarks: list[str] = field(default_factory=list)

    def episode(self, number: int, views: tuple[str, ...]) -> Episode:
        """Reads one of the demonstrations.

        Raises:
            ValueError: It lacks a part of the layout; the message names it.
        """
        demo = self.demos[number]
        try:
            return _episode(demo, self.instruction, views)
        except Exception as error:  # h5py's errors on damage are of many kinds
            raise ValueError(f"{demo.name}: {one_line(error)}") from error


@contextmanager
def open_demos(path: Path, told: str = "") -> Iterator[DemoFile]:
    """Opens a file.

    Args:
        path: A `*.hdf5` file.
        told: The instruction, used if neither the file nor its name holds it.

    Raises:
        DemonstrationError: The file is missing, is no HDF5, or lacks something of the layout. Also
            for what is raised inside, which it names with the file.
    """
    if path.exists() and not path.is_file():
        raise DemonstrationError(f"{path} cannot be read as HDF5: it is no file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DemonstrationError(f"{path} cannot be read as HDF5: {one_line(error)}") from error
    with file:
        try:
            yield _opened(file, path, told)
        except HeisdError:
            raise
        except Exception as error:  # h5py's errors on damage are of many kinds
            raise DemonstrationError(
                f"{path} is not in LIBERO's layout: {one_line(error)}"
            ) from error


def read_episodes(path: Path, views: tuple[str, ...] = tuple(VIEWS)) -> Iterator[Episode]:
    """Yields the episodes of one file.

    Args:
        path: A `*.hdf5` file.
        views: Which views to read, of `agentview` and `wrist`.

    Raises:
        DemonstrationError: As in `open_demos`.
    """
    _check_views(views)
    with open_demos(path) as file:
        for number in range(len(file.demos)):
            yield file.episode(number, views)


def read_episode(path: Path, number: int, views: tuple[str, ...], told: str = "") -> Episode:
    """Reads one of the episodes that `read_episodes` yields, without reading the others.

    Args:
        path: A `*.hdf5` file.
        number: Index of the episode, from 0.
        views: Which views to read, of `agentview` and `wrist`.
        told: As in `open_demos`.

    Raises:
        DemonstrationError: As in `open_demos`; or there is no such episode.
    """
    _check_views(views)
    with open_demos(path, told) as file:
        return file.episode(number, views)


def optional_index(group: h5py.Group, name: str) -> int | None:
    """Returns an integer among a group's attributes; None if it is missing."""
    return int(group.attrs[name]) if name in group.attrs else None


def _check_views(views: tuple[str, ...]) -> None:
    unknown = [view for view in views if view not in VIEWS]
    if unknown:
        raise DemonstrationError(f"views {unknown} are unknown; accepted: {sorted(VIEWS)}")


def _opened(file: h5py.File, path: Path, told: str) -> DemoFile:
    data = _group(file, "data")
    names = {name: _DEMO.fullmatch(name) for name in data}
    strange = [name for name, match in names.items() if match is None]
    if strange:
        raise ValueError(f"data has {reprlib.repr(strange)}; accepted: demo_0, demo_1, ...")
    numbered = sorted((int(match[1]), name) for name, match in names.items() if match)
    demos = [_group(data, name) for _, name in numbered]
    closed = [demo for demo in demos if CLOSED in demo.attrs]
    whole = closed or demos  # some recorders write no such attribute at all
    robomimic = bool(whole) and _names(_group(whole[0], "obs")) is _ROBOMIMIC
    _check_robot(data)
    instruction, remark = _instruction(data, path, told, robomimic)
    return DemoFile(whole, instruction, len(demos) - len(whole), [remark] if remark else [])


def _instruction(data: h5py.Group, path: Path, told: str, robomimic: bool) -> tuple[str, str]:
    """Returns the instruction, and a remark if the file does not hold it itself.

    LIBERO's files hold the instruction as a string, or as a list of its characters. OpenVLA's
    script that replays them leaves all attributes out: there the file is named after its task.
    """
    if "problem_info" in data.attrs:
        where = "attribute 'problem_info' of data"
        try:
            language = json.loads(data.attrs["problem_info"])["language_instruction"]
            text = "".join(language).strip('"').strip()
        except Exception as error:  # whatever JSON may hold
            raise ValueError(
                f"{where} names no instruction ({type(error).__name__}: {error}); accepted: JSON "
                "with 'language_instruction'"
            ) from error
        if not text:
            raise ValueError(f"{where}: 'language_instruction' is empty")
        return text, ""
    task = _TASK.fullmatch(path.name)
    if task is not None and not robomimic:
        text = task[1].replace("_", " ").strip()
        return text, f"no attribute 'problem_info': the instruction {text!r} is the file's name"
    if told:
        return told, f"no attribute 'problem_info': the instruction {told!r} is the parameters'"
    raise ValueError(
        "it names no instruction: data has no attribute 'problem_info'; call the file "
        "<what_the_robot_was_told>_demo.hdf5, or name the parameter 'instruction' in a file given "
        "with --params"
    )


def _check_robot(data: h5py.Group) -> None:
    """Refuses a robot other than a Panda, if robomimic's `env_args` names one."""
    try:
        robots = json.loads(data.attrs["env_args"])["env_kwargs"]["robots"]
    except Exception:  # the attribute is LIBERO's own, or not there
        return
    if [robots] != ["Panda"] and robots != ["Panda"]:
        raise ValueError(f"its robot is {reprlib.repr(robots)}; accepted: 'Panda'")


def _names(obs: h5py.Group) -> _Names:
    return _ROBOMIMIC if _ROBOMIMIC.joints in obs and _LIBERO.joints not in obs else _LIBERO


def _episode(demo: h5py.Group, instruction: str, views: tuple[str, ...]) -> Episode:
    obs = _group(demo, "obs")
    names = _names(obs)
    actions = _numbers(demo, "actions", None, 7)
    steps = len(actions)
    stated = optional_index(demo, CLOSED)
    if stated not in (None, steps):
        raise ValueError(f"attribute {CLOSED!r} is {stated}, but it has {steps} actions")
    fingers = _numbers(obs, names.fingers, steps, 2)
    images = {view: _pictures(obs, names.views[view], steps) for view in views}
    return Episode(
        instruction=instruction,
        images={v: p if names.upright else p[:, ::-1] for v, p in images.items()},
        actions=actions,
        joint_positions=_numbers(obs, names.joints, steps, 7),
        joint_velocities=(
            _numbers(obs, names.velocities, steps, 7) if names.velocities in obs else None
        ),
        gripper_opening=np.abs(fingers).sum(axis=1),
        landmarks=_numbers(obs, "landmarks", steps, 6) if "landmarks" in obs else None,
        init_state=optional_index(demo, "init_state_index"),
        outcome=_outcome(demo, steps),
        stride=_stride(demo),
        person=_flags(demo, PERSON, steps) if PERSON in demo else None,
        reasoning=_texts(demo, REASONING, steps) if REASONING in demo else None,
    )


def _stride(demo: h5py.Group) -> int:
    """Returns the control steps from one recorded step to the next."""
    stride = optional_index(demo, "stride")
    if stride is not None and not 1 <= stride <= _LONGEST_STRIDE:
        raise ValueError(f"attribute 'stride' is {stride}; accepted: 1 to {_LONGEST_STRIDE}")
    return stride or 1


def _texts(group: h5py.Group, name: str, steps: int) -> np.ndarray:
    """Reads a data set (T,) of strings."""
    found = _dataset(group, name)
    if found.shape != (steps,) or h5py.check_string_dtype(found.dtype) is None:
        raise ValueError(
            f"{name!r} is {found.dtype} of shape {found.shape}; accepted: strings of ({steps},)"
        )
    return np.asarray(found.asstr()[:], dtype=object)


def _flags(group: h5py.Group, name: str, steps: int) -> np.ndarray:
    """Reads a data set (T,) of zeros and ones as booleans."""
    found = _dataset(group, name)
    if found.shape != (steps,):
        raise ValueError(f"{name!r} is of shape {found.shape}; accepted: ({steps},)")
    values = np.asarray(found[:])
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"{name!r} holds other numbers than 0 and 1")
    return values.astype(bool)


def _outcome(demo: h5py.Group, steps: int) -> str:
    """Returns how a demonstration ended, as `Episode.outcome`.

    Files of ours say so in an attribute. In others the last step's reward is 1, robosuite's reward
    of success, or less.
    """
    if "outcome" in demo.attrs:
        outcome, accepted = demo.attrs["outcome"], [each.value for each in Outcome]
        if outcome not in accepted:
            raise ValueError(
                f"attribute 'outcome' is {reprlib.repr(outcome)}; accepted: {', '.join(accepted)}"
            )
        return str(outcome)
    if "stride" in demo.attrs or "rewards" not in demo:  # a file of ours, or one without
        return ""
    rewards = _dataset(demo, "rewards")
    if rewards.shape != (steps,):
        return ""
    return "success" if rewards[-1] >= 1 else "failure"


def _numbers(group: h5py.Group, name: str, steps: int | None, width: int) -> np.ndarray:
    """Reads a data set (T, width) of finite numbers."""
    found = _dataset(group, name)
    wanted = (found.shape[0] if found.shape and steps is None else steps, width)
    if found.shape != wanted or not wanted[0] or wanted[0] > _STEPS:
        raise ValueError(
            f"{name!r} is of shape {found.shape}; accepted: ({steps or f'1 to {_STEPS}'}, {width})"
        )
    values = np.asarray(found[:], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name!r} is not finite at step {int(np.argwhere(~np.isfinite(values))[0][0])}"
        )
    return values


def _pictures(group: h5py.Group, name: str, steps: int) -> np.ndarray:
    found = _dataset(group, name)
    right = found.dtype == np.uint8 and len(found.shape) == 4 and found.shape[3] == 3
    if not right or found.shape[0] != steps:
        raise ValueError(
            f"{name!r} is {found.dtype} of shape {found.shape}; accepted: uint8 of "
            f"({steps}, H, W, 3)"
        )
    pictures: np.ndarray = found[:]
    return pictures


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    found = _member(group, name)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name!r} is no data set")
    if found.external or found.is_virtual:
        raise ValueError(f"the data of {name!r} are in other files; accepted: data in this file")
    if found.nbytes > max(_BYTES, _RATIO * found.id.get_storage_size()):
        raise ValueError(f"{name!r} claims {found.nbytes} bytes, of which the file has few")
    return found


def _group(group: h5py.Group, name: str) -> h5py.Group:
    found = _member(group, name)
    if not isinstance(found, h5py.Group):
        raise ValueError(f"{name!r} is no group")
    return found


def _member(group: h5py.Group, name: str) -> Any:
    if name not in group:
        there = reprlib.repr(sorted(group))
        raise ValueError(f"{group.name} has no {name!r}; it has {there}")
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise ValueError(f"{name!r} is a link to {link.filename!r}; accepted: data in this file")
    found = group[name]
    if found.file.filename != group.file.filename:  # by a link on the way there
        raise ValueError(f"{name!r} is in {found.file.filename!r}; accepted: data in this file")
    return found

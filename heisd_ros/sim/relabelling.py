"""Relabels recorded demonstrations with the actions of the current expert, and with its reasons.

Both are functions of the scene's state, and recordings keep their states. So when the expert's law
or the wording changes, recordings need not be made and drawn again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from heisd_ros.data.demo_files import PERSON, REASONING, optional_index
from heisd_ros.errors import DemonstrationError
from heisd_ros.files.atomic import replacing
from heisd_ros.sim.curve_expert import expert_of
from heisd_ros.sim.reasoning import AHEAD, Reasoner
from heisd_ros.sim.scene import CLOSE_GRIPPER, LiberoScene


@dataclass(frozen=True)
class Relabelled:
    """Result of relabelling one file.

    Attributes:
        frames: Frames in it.
        contradicted: Of these, frames whose recorded gripper command differs from the expert's in
            the restored scene; what is held follows the recording there.
    """

    frames: int
    contradicted: int


def relabel(path: Path, destination: Path) -> Relabelled:
    """Writes a copy of a recording with the actions and the reasonings of the current expert.

    Contact of the fingers is not part of a state, so a restored scene may judge otherwise whether
    the object is held. Where the gripper's command shows that, the recording is believed.

    Args:
        path: A file that `heisd demos` wrote.
        destination: The copy, there when it is complete.

    Raises:
        DemonstrationError: The file lacks what a recording of `heisd demos` holds.
        SceneError: No scripted expert knows its task.
    """
    frames = contradicted = 0
    try:
        with replacing(destination) as part:
            shutil.copyfile(path, part)
            with h5py.File(part, "r+") as file:
                data = file["data"]
                environment = json.loads(data.attrs["env_args"])
                candidate = int(data.attrs["grasp_candidate"])
                scene = LiberoScene(environment["suite"], environment["task_index"])
                with contextlib.closing(scene):
                    for demo in data.values():
                        frames += len(demo["actions"])
                        contradicted += _relabel_episode(scene, demo, candidate)
    except (KeyError, OSError) as error:
        raise DemonstrationError(f"{path} is no recording of `heisd demos`: {error}") from error
    return Relabelled(frames, contradicted)


def _relabel_episode(scene: LiberoScene, demo: h5py.Group, candidate: int) -> int:
    """Replaces an episode's actions and reasonings.

    Returns:
        The number of frames in which the recording is believed.
    """
    scene.reset(int(demo.attrs["init_state_index"]))
    scene.place_fixtures(demo.attrs["model_file"])
    # The expert that recorded it: the simulated person keeps to the scene's goal.
    expert = expert_of(scene, candidate, corrects=PERSON in demo)
    reasoner = Reasoner(scene, expert)
    actions, states, contradicted = np.asarray(demo["actions"]), np.asarray(demo["states"]), 0
    grippers = [_gripper(reasoner, state) for state in states]
    ahead = max(1, round(AHEAD / (optional_index(demo, "stride") or 1)))
    texts = []
    for frame, state in enumerate(states):
        scene.restore(state)
        held: bool | None = None
        action = expert.action()
        if action[6] != actions[frame, 6]:
            contradicted += 1
            held = bool(actions[frame, 6] == CLOSE_GRIPPER)
            action = expert.action(held)
        later = min(frame + ahead, len(states) - 1)
        points = grippers[frame], grippers[later]
        texts.append(reasoner.text(expert.intent(held), action, points))
        actions[frame] = action
    demo["actions"][...] = actions
    if REASONING in demo:
        del demo[REASONING]
    demo.create_dataset(REASONING, data=texts, dtype=h5py.string_dtype())
    return contradicted


def _gripper(reasoner: Reasoner, state: np.ndarray) -> tuple[int, int]:
    reasoner.scene.restore(state)
    return reasoner.gripper()

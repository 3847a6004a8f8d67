"""What Ray workers do in tests: `heisd db build`'s own functions on one recorded episode."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from heisd_ros.data.episode import Episode
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.training.dataset import episode_proprio
from heisd_ros.training.encode_frames import read_frames


@dataclass(frozen=True)
class FrameReader:
    """Loads a model where it is called, and gives what reads an episode's frames with it."""

    checkpoint: Path

    def __call__(self):
        vla = load_checkpoint(self.checkpoint)
        arm = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)

        def read(episode: Episode):
            return read_frames(vla, episode, episode_proprio(episode, arm), 4)

        return read


def where(number):
    """A job that takes a moment; gives its number and the node of the cluster that ran it."""
    import ray

    time.sleep(0.5)
    return number, ray.get_runtime_context().get_node_id()


def dies_once(number, folder):
    """A job whose worker is killed the first time."""
    mark = Path(folder) / str(number)
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def dies():
    """A job whose worker is always killed."""
    os.kill(os.getpid(), signal.SIGKILL)

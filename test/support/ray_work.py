"""Jobs that Ray workers run in tests."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from heisd_ros.errors import CheckpointError


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


def refuses():
    """Fails by name."""
    raise CheckpointError("a tensor of rank 9")

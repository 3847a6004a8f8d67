"""Nodes as processes."""

from __future__ import annotations

import os
import subprocess
import sys

from support.tree import ROOT


def launch(world, module, **parameters):
    """Starts a node's module in the world's domain; `__` in a parameter's name is a dot."""
    command = [sys.executable, "-m", module, "--ros-args"]
    given = {name.replace("__", "."): value for name, value in parameters.items()}
    world.launched.append(given)
    for name, value in given.items():
        command += ["-p", f"{name}:={value}"]
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(world.domain_id),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "test"), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

"""The robot's computer needs no PyTorch for a model that runs elsewhere."""

from __future__ import annotations

import subprocess
import sys

from support.robots import robot_files
from support.serving import Counting, serving

LACKING = """
import sys
HEAVY = ("torch", "faiss", "tokenizers", "safetensors", "mujoco", "h5py")
for name in HEAVY:
    sys.modules[name] = None  # as where it is not installed
"""
ROBOT = """
import numpy as np
import heisd_ros.nodes.vla_node
from heisd_ros.control.policy import load_policy
from heisd_ros.control.session import open_session
from heisd_ros.decoding.types import Observation
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters

settings = from_values(VlaNodeParameters, {"model.path": sys.argv[1]})
session = open_session(settings, load_policy, lambda: None)
blank = tuple(np.zeros((8, 8, 3), np.uint8) for _ in session.policy.views)
result = session.policy.decoder.infer(Observation(blank, "go", np.zeros(7, np.float32)))
session.worker.stop(5.0)
session.policy.close()
print(result.action.tolist(), session.summary)
"""


CHECK = """
from heisd_ros.cli.main import app
app(["check", sys.argv[1]])
"""


def without_torch(code, argument):
    command = [sys.executable, "-c", LACKING + code, argument]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_node_with_a_served_model_imports_nothing_that_runs_models():
    with serving(Counting()) as server:
        said = without_torch(ROBOT, server.uri)
    assert "[1.0, 1.0" in said and f"model {server.uri}" in said


def test_the_robots_file_is_checked_there(tmp_path):
    text = robot_files()["ur5e"].read_text(encoding="utf-8")
    file, head = tmp_path / "robot.yaml", "ros__parameters:\n"
    text = text.replace(head, f"{head}    model.path: ws://gpu-box:8000\n", 1)
    file.write_text(text, encoding="utf-8")
    assert "ws://gpu-box:8000 is asked" in without_torch(CHECK, str(file))

"""Loading a checkpoint costs no more than it has to."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys, torch
from heisd_ros.families.checkpoint import load_checkpoint
load_checkpoint(sys.argv[1], "cpu", torch.float32)
print("torch._dynamo" in sys.modules)
"""


def test_a_checkpoint_loads_without_the_compiler(checkpoint):
    command = [sys.executable, "-c", CODE, str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr

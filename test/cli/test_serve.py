"""`heisd serve` as a process: it serves, leaves on a signal, and is missed by name when killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from support.tiny_vla import INSTRUCTIONS
from typer.testing import CliRunner

from heisd_ros.cli.main import app
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import RemoteModelError
from heisd_ros.serving.address import Address
from heisd_ros.serving.link import Link
from heisd_ros.serving.remote import RemoteDecoder


def serve(*arguments):
    return CliRunner().invoke(app, ["serve", *map(str, arguments)])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_serves_until_a_signal(checkpoint, number):
    command = [sys.executable, "-m", "heisd_ros.cli.main", "serve", "--port", "0"]
    command += ["--model", str(checkpoint), "--threads", "1"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        uri = re.search(r"ws://\S+", process.stdout.readline())[0]
        link = Link(Address.parse(uri))
        decoder = RemoteDecoder(link, 0.5)
        images = (np.zeros((32, 32, 3), np.uint8),) * 2
        blank = Observation(images, INSTRUCTIONS[0], np.zeros(7, np.float32))
        assert decoder.infer(blank).action.shape == (7,)
        process.send_signal(number)
        code = process.wait(20.0)
        assert code == (0 if number == signal.SIGTERM else -number)
        with pytest.raises(RemoteModelError, match=r"ended|refused|1001"):
            decoder.infer(blank)
        link.close()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "HEISD_MODEL_TOKEN"),
        (["--model", "ws://gpu-box:8000"], "accepted: a folder"),
        (["--mode", "heisd", "--clients", 2], "accepted with --mode heisd: 1"),
        (["--mode", "ar_compiled", "--clients", 2, "--host", "0.0.0.0"], "HEISD_MODEL_TOKEN"),
        (["--model", "/nowhere"], "/nowhere"),
        (["--action-space", "tendons"], "'end_effector', 'joint_velocity', 'joint_position'"),
        (["--action-space", "joint_velocity"], "accepted: 'end_effector' or ''"),
        (["--certificate", "/nowhere.pem"], "No such file"),
        (["--key", "key.pem"], "--key is key.pem; accepted: with --certificate"),
    ],
)
def test_what_cannot_be_served_is_one_line(checkpoint, monkeypatch, arguments, words):
    monkeypatch.delenv("HEISD_MODEL_TOKEN", raising=False)
    model = [] if "--model" in arguments else ["--model", checkpoint]
    result = serve(*model, "--threads", 1, "--port", 0, *arguments)
    assert result.exit_code == 1 and words in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_a_model_that_has_no_room_is_one_line(checkpoint, monkeypatch):
    def full(parameters):
        raise MemoryError

    monkeypatch.setattr("heisd_ros.control.policy.load_policy", full)
    result = serve("--model", checkpoint, "--port", 0)
    assert result.exit_code == 1
    assert result.output.startswith("cpu has no memory left for the model")
    assert len(result.output.strip().splitlines()) == 1

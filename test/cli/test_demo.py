"""`heisd demo` with a model that has learnt nothing: it must run, report and fail honestly."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny_vla import save_tiny_checkpoint
from support.workers import next_domain_id
from typer.testing import CliRunner

from heisd_ros.cli.demo import NodeEndedError, _node_arguments, _open_view
from heisd_ros.cli.demo_figure import save_film, save_strip
from heisd_ros.cli.demo_report import Settings, latency_summary
from heisd_ros.cli.demo_view import PlainView, state_line
from heisd_ros.cli.main import app
from heisd_ros.cli.view_server import PORT
from heisd_ros.decoding.types import Source, deciding
from heisd_ros.nodes.tools.demo_monitor import Frame, Snapshot


def snapshot(**changes):
    values = {
        "instruction": "pick up the bowl",
        "step": 0,
        "success": False,
        "hold": "",
        "source": "",
        "rates_hz": {"image": 10.0},
        "latency_ms": {},
        "metric": math.nan,
        "metric_parts": (math.nan,) * 3,
        "twist": (0.0,) * 6,
        "gripper": math.nan,
        "tip": (0.0,) * 3,
    }
    return Snapshot(**{**values, **changes})


def test_a_line_says_everything_from_the_start_on():
    early = state_line("episode 1/3", snapshot())
    assert "pick up the bowl" in early and "none yet" in early and "window not full" in early
    late = state_line(
        "episode 1/3",
        snapshot(
            step=7,
            source="autoregressive",
            hold="stale_image: view wrist",
            latency_ms={"decode": 12.0, "total": 30.0},
            metric=0.4,
            metric_parts=(0.1, 0.2, 0.3),
            twist=(0.5, 0, 0, 0, 0, -1.0),
            gripper=0.08,
        ),
    )
    for part in ("7 (auto", "stale_image", "30.0 ms", "decode 12.0", "0.40", "+0.50", "0.080 m"):
        assert part in late


def test_latencies_are_summed_up():
    summary = latency_summary([{"total": value} for value in (1.0, 2.0, 9.0)])
    assert summary["total"]["mean"] == 4.0 and summary["total"]["p50"] == 2.0
    assert latency_summary([]) == {}


def test_a_view_that_cannot_be_served_is_named(tmp_path):
    pytest.importorskip("rerun", reason="extra view")
    settings = Settings(
        suite="libero_spatial", tasks=(1,), init_states=(40,), model="", mode="ar", max_steps=1,
        budget_sec=60.0, real_time=False, domain_id=1, output=tmp_path, view=True,
    )  # fmt: skip
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else has it
            taken.bind(("127.0.0.1", PORT))
            taken.listen()
        with pytest.raises(NodeEndedError, match=f"did not start: 127.0.0.1:{PORT} cannot"):
            _open_view(settings, PlainView(), time.monotonic() + 60.0)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_strip_is_a_picture(tmp_path, count):
    frames = [
        Frame(i, np.full((16, 16, 3), i, np.uint8), np.array([0.01 * i, 0.0, 0.3]))
        for i in range(count)
    ]
    save_strip(tmp_path / "strip.png", "title", frames)
    with Image.open(tmp_path / "strip.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 200


@pytest.mark.parametrize("name", ["film.gif", "film.webp"])
def test_the_film_moves_and_grows_the_path(tmp_path, name):
    frames = [
        Frame(i, np.full((16, 16, 3), 10 * i, np.uint8), np.array([0.01 * i, 0.0, 0.3]), source)
        for i, source in enumerate([*deciding(), Source.HOLD])
    ]
    save_film(tmp_path / "films" / name, "title", frames)
    with Image.open(tmp_path / "films" / name) as film:
        assert film.n_frames > 2
        film.seek(film.n_frames - 1)
        colours = {tuple(colour) for _, colour in film.convert("RGB").getcolors(1 << 20)}
    assert any(abs(r - 50) + abs(g - 50) + abs(b - 50) < 10 for r, g, b in colours)


def test_tasks_and_initial_states_come_in_pairs():
    with pytest.raises(ValueError, match="2 tasks and 1 initial states"):
        Settings("s", (0, 1), (40,), "", "ar", 1, 1.0, False, 1, Path())


def start(tmp_path, *options):
    model = save_tiny_checkpoint(tmp_path / "model", instructions=None)
    command = [sys.executable, "-m", "heisd_ros.cli.main", "demo", "--model", str(model)]
    command += ["--task", "0", "--output", str(tmp_path / "output"), *options]
    command += ["--domain-id", str(next_domain_id())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def children_of(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()


@pytest.mark.slow
def test_a_run_without_a_terminal_reports_failure_with_pictures_and_json(tmp_path):
    file = tmp_path / "shown.json"
    process = start(tmp_path, "--max-steps", "8", "--json", str(file))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1 and "FAILURE after" in output
    shown = json.loads(file.read_text(encoding="utf-8"))
    (episode,) = shown["episodes"]
    assert shown["successes"] == 0 and shown["exit_code"] == 1
    assert episode["steps"] >= 8 and episode["init_state"] == 40 and episode["instruction"]
    assert episode["latency_ms"]["decode"]["p50"] > 0.0
    assert episode["sources"] == {"autoregressive": episode["steps"]}
    assert Path(episode["picture"]).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_arm_and_leaves_no_process(tmp_path, number):
    process = start(tmp_path, "--max-steps", "100000")
    try:
        for line in process.stdout:
            if re.search(r"step: [1-9]", line):
                break
        nodes = children_of(process.pid)
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and "the arm was stopped" in output
    assert len(nodes) == 2
    deadline = time.monotonic() + 60.0
    while any(Path(f"/proc/{pid}").exists() for pid in nodes):
        assert time.monotonic() < deadline, "a node is left behind"
        time.sleep(0.05)


def test_a_model_is_a_folder_or_the_address_of_a_server():
    def path_of(model):
        settings = Settings("s", (0,), (40,), model, "ar", 1, 1.0, False, 1, Path())
        (found,) = (a for a in _node_arguments(settings)["vla_node"] if a.startswith("model.path"))
        return found

    assert path_of("ws://somewhere:8000") == "model.path:='ws://somewhere:8000'"
    assert path_of("") == "model.path:=''"
    assert path_of("model") == f"model.path:='{Path.cwd() / 'model'}'"


def test_a_film_of_another_kind_is_refused_before_anything_runs(tmp_path):
    result = CliRunner().invoke(app, ["demo", "--film", str(tmp_path / "film.mp4")])
    assert result.exit_code == 2 and ".webp" in result.output

"""`heisd doctor`: each thing that will not work is said, with what to do about it."""

from __future__ import annotations

import sys

import pytest
from support.robots import robot_files
from support.serving import Counting, serving
from typer.testing import CliRunner

from heisd_ros.cli import doctor, machine_checks
from heisd_ros.cli.machine_checks import Finding
from heisd_ros.cli.main import app
from heisd_ros.robot.declare import with_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.sim import renderer


def test_this_environment_is_good(monkeypatch):
    monkeypatch.setattr(machine_checks, "COMPILED", ("numpy", "pinocchio"))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    for name in ("Python", "numpy", "GPU", "renderer", "shared memory", "threads", "clock", "RMW"):
        assert any(f" {name}: " in line for line in lines), name
    assert not [line for line in lines if line.startswith("bad")]


def test_what_is_bad_decides_the_exit_code(monkeypatch):
    monkeypatch.setattr(doctor, "look", lambda: iter([Finding("bad", "GPU", "is on fire")]))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1 and "bad      GPU: is on fire" in result.output


def test_an_old_python_is_named():
    assert machine_checks.python((3, 9)).level == "bad"
    assert "accepted: 3.10" in machine_checks.python((3, 9)).text
    assert machine_checks.python((3, 14)).level == "good"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("raise ImportError('A module that was compiled using NumPy 1.x cannot')", "another NumPy"),
        ("raise RuntimeError('broken')", "cannot be imported: RuntimeError"),
        ("import os; os.abort()", "ends the process"),
        ("import nothing_of_that_name", "cannot be imported"),
    ],
)
def test_a_compiled_package_that_does_not_fit_is_named(tmp_path, monkeypatch, body, text):
    (tmp_path / "compiled_thing.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = machine_checks.packages(("compiled_thing",))
    assert finding.level == "bad" and text in finding.text


def test_a_missing_package_is_bad_only_where_it_is_needed(monkeypatch):
    (needed,) = machine_checks.packages(("nothing_of_that_name",))
    assert (needed.level, needed.text) == ("bad", "is not installed")
    monkeypatch.setattr(machine_checks, "OPTIONAL", {"nothing_of_that_name"})
    (optional,) = machine_checks.packages(("nothing_of_that_name",))
    assert optional.level == "warning"


def test_a_renderer_that_is_not_there_has_a_remedy(monkeypatch):
    monkeypatch.setattr(renderer, "loads", lambda library: library == "libEGL.so.1")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert "egl of" in machine_checks.renderer().text  # where a release has no OSMesa any more
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert "set MUJOCO_GL=egl" in machine_checks.renderer().text
    monkeypatch.setenv("MUJOCO_GL", "egl")
    assert machine_checks.renderer().level == "good"
    monkeypatch.setattr(renderer, "loads", lambda library: False)
    assert "install" in machine_checks.renderer().text


def test_memory_threads_and_clock(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    assert "fastdds.xml" in machine_checks.shared_memory(str(tmp_path)).text
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/a")
    assert machine_checks.shared_memory(str(tmp_path)).level == "good"
    monkeypatch.setattr(machine_checks, "SCARCE_MIB", 2**40)
    assert machine_checks.shared_memory(str(tmp_path)).level == "bad"
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    assert machine_checks.threads().level == "warning"
    source = tmp_path / "clock"
    assert machine_checks.clock(source).level == "warning"
    source.write_text("hpet\n")
    assert "hpet" in machine_checks.clock(source).text
    source.write_text("tsc\n")
    assert machine_checks.clock(source).level == "good"


def test_without_ros_it_is_said(monkeypatch):
    monkeypatch.setattr(doctor, "look", lambda: iter([]))
    monkeypatch.setitem(sys.modules, "heisd_ros.nodes.running_checks", None)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1 and "ROS: cannot be imported" in result.output


def test_a_robot_file_that_is_wrong_is_one_line(monkeypatch):
    monkeypatch.setattr(doctor, "look", lambda: iter([]))
    result = CliRunner().invoke(app, ["doctor", "--robot", str(robot_files()["generic"])])
    assert result.exit_code == 1 and "'robot.tip_frame' is ''" in result.output


def test_a_models_server_is_asked(tmp_path):
    with serving(Counting()) as server:
        cell = with_values(VlaNodeParameters(), {"model.path": server.uri})
        asked = doctor.served(cell)
        assert asked.level == "good" and "mode ar, views agentview, wrist, 20 Hz" in asked.text
    gone = doctor.served(cell)
    assert gone.level == "bad" and "refused" in gone.text

"""What `make install` and CMake decide before anything is made."""

from __future__ import annotations

import os
import subprocess
import sys
import venv

import pytest
from support.tree import ROOT

CHECK_PYTHON = f"""
cmake_minimum_required(VERSION 3.22)
project(check NONE)
include({ROOT}/cmake/python_packages.cmake)
heisd_check_python()
"""


@pytest.fixture
def run(tmp_path):
    """Runs a command with variables of its own, and programs of `tmp_path` before all others."""

    def run(*command, **variables):
        path = f"{tmp_path}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path} | variables
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
        )
        return " ".join((done.stdout + done.stderr).split())

    return run


def program(folder, name, body):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def check_python(run, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(CHECK_PYTHON)

    def check(python, **variables):
        arguments = ["-S", str(project), "-B", str(tmp_path / "build")]
        return run("cmake", *arguments, f"-DPython3_EXECUTABLE={python}", **variables)

    return check


def test_cmake_names_what_the_generators_lack(check_python, tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    said = check_python(tmp_path / "bare/bin/python")
    assert "cannot import what the message generators need" in said
    assert "lark: pip install lark-parser, or apt install python3-lark" in said


def test_cmake_refuses_an_old_python(check_python, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.version_info = (3, 9, 2, 'final', 0)"
    )
    said = check_python(sys.executable, PYTHONPATH=str(tmp_path))
    assert "needs Python 3.10 or newer" in said and "is 3.9.2" in said


def test_cmake_is_content_with_this_environment(check_python):
    assert "Configuring done" in check_python(sys.executable)


def install(run, folder, **variables):
    variables = {"DRY_RUN": "1", "PYTHON": sys.executable} | variables
    return run("scripts/bootstrap", str(folder), "jazzy", **variables)


def test_the_torch_that_was_asked_for_is_remembered(run, tmp_path):
    environment = tmp_path / "environment"
    environment.mkdir()
    assert "torch: chosen here" in install(run, environment)
    (environment / ".heisd-torch-spec").write_text("torch==2.9.0")
    assert "torch: torch==2.9.0" in install(run, environment)
    assert "torch: torch==2.8.0" in install(run, environment, TORCH_SPEC="torch==2.8.0")
    assert "torch: chosen here" in install(run, environment, TORCH_SPEC="")


def test_an_interpreter_out_of_range_is_refused(run, tmp_path):
    old = program(tmp_path, "python3.9", "exit 1")
    assert "is no Python from 3.10 to 3.14" in install(run, tmp_path / "environment", PYTHON=old)


@pytest.mark.parametrize(
    ("release_has", "expected", "not_expected"),
    [
        ("libosmesa6 libglib2.0-0t64", "libosmesa6 libgl1 libglib2.0-0t64", "MUJOCO_GL"),
        ("libglib2.0-0", "libegl-mesa0 libgl1 libglib2.0-0", "libosmesa6 libgl1"),
    ],
)
def test_system_packages_are_those_of_the_release(
    run, tmp_path, release_has, expected, not_expected
):
    program(tmp_path, "ldconfig", "echo libEGL.so.1 ")
    program(tmp_path, "apt-cache", f'case " {release_has} " in *" $2 "*) ;; *) exit 1 ;; esac')
    said = run("scripts/system_packages", sys.executable, SIMULATE="1")
    assert expected in said and not_expected not in said

"""The tree builds with colcon against the ROS it runs with, and works from the install space."""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from support.tree import PACKAGE, ROOT

pytestmark = pytest.mark.slow

PROBE = """
import importlib, json, pathlib
import ament_index_python, heisd_ros, heisd_ros.msg
support = [m for m in vars(heisd_ros.msg).values() if hasattr(m, "__import_type_support__")]
for message in support:
    message.__import_type_support__()
share = ament_index_python.get_package_share_directory("heisd_ros")
print(json.dumps({
    "package": heisd_ros.__file__, "messages": heisd_ros.msg.__file__,
    "names": sorted(m.__name__ for m in support), "share": share,
}))
"""


def clean_environment():
    """This process's environment with the running prefix as the only ROS."""
    environment = {
        k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "COLCON_PREFIX_PATH"}
    }
    environment.update(AMENT_PREFIX_PATH=sys.prefix, CMAKE_PREFIX_PATH=sys.prefix)
    return environment


def relative_files(folder):
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def build_base(tmp_path_factory):
    """Shared by both installations: compiling the messages takes most of the time."""
    return tmp_path_factory.mktemp("colcon")


@pytest.fixture(scope="module", params=["copied", "symlinked"])
def install_space(request, build_base, tmp_path_factory):
    # CMake makes no link where the installation by copies left a folder.
    shutil.rmtree(build_base / "heisd_ros/ament_cmake_python", ignore_errors=True)
    work = tmp_path_factory.mktemp(f"colcon_{request.param}")
    # Behind the tests of the other worker, whose nodes have deadlines.
    command = ["nice", "-n", "15", sys.executable, "-m", "colcon", "--log-base", str(work / "log")]
    command += ["build", "--paths", str(ROOT), "--build-base", str(build_base)]
    command += ["--install-base", str(work / "install"), "--event-handlers", "console_direct+"]
    if request.param == "symlinked":
        command.append("--symlink-install")
    command += ["--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={sys.executable}"]
    done = subprocess.run(
        command, env=clean_environment(), cwd=work, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return work / "install"


def in_install_space(install_space, *command):
    """Run a command in a fresh shell after sourcing the install space, as a user would."""
    line = f"source {shlex.quote(str(install_space / 'setup.bash'))} && exec {shlex.join(command)}"
    return subprocess.run(
        ["bash", "-c", line],
        env=clean_environment(),
        cwd=install_space,
        capture_output=True,
        text=True,
    )


def test_package_and_messages_import_from_the_install_space(install_space):
    result = in_install_space(install_space, sys.executable, "-c", PROBE)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    prefix = install_space / "heisd_ros"
    for key in ("package", "messages", "share"):
        assert found[key].startswith(str(prefix)), found
    assert found["names"] == sorted(path.stem for path in (ROOT / "msg").glob("*.msg"))


def test_every_file_of_the_package_is_installed(install_space):
    """Python files and package data such as the shipped checkpoint."""
    (installed,) = (install_space / "heisd_ros").glob("lib/python*/site-packages/heisd_ros")
    assert relative_files(PACKAGE) <= relative_files(installed)


@pytest.mark.parametrize("folder", ["launch", "config"])
def test_share_has_launch_and_config(install_space, folder):
    shared = install_space / "heisd_ros/share/heisd_ros"
    sources = relative_files(ROOT / folder)
    assert sources
    assert sources <= relative_files(shared / folder)


@pytest.mark.parametrize("name", ["vla_node", "sim_arm_node", "heisd"])
def test_executables_run_with_the_interpreter_of_the_build(install_space, name):
    script = install_space / "heisd_ros/lib/heisd_ros" / name
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.splitlines()[0] == f"#!{sys.executable}"
    ast.parse(text)


def test_heisd_command_is_on_the_path(install_space):
    where = in_install_space(install_space, "bash", "-c", "command -v heisd")
    assert where.stdout.strip() == str(install_space / "heisd_ros/bin/heisd")
    answer = in_install_space(install_space, "heisd", "--help")
    assert answer.returncode == 0, answer.stderr

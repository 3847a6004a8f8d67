"""`pip install .`: with ROS the wheel brings messages, without ROS it says what is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from support.tree import PACKAGE, ROOT

pytestmark = pytest.mark.slow

SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
INPUTS = ["heisd_ros", "msg", "action", "launch", "config", "cmake", "CMakeLists.txt"]
INPUTS += ["package.xml", "setup.py", "pyproject.toml", "README.md", "LICENSE"]

# Publishing goes through every library of a message: generator, introspection, Fast DDS.
PROBE = """
import json
import heisd_ros, heisd_ros.msg, rclpy
rclpy.init()
node = rclpy.create_node("probe")
for name, message in vars(heisd_ros.msg).items():
    if hasattr(message, "__import_type_support__"):
        node.create_publisher(message, name.lower(), 1).publish(message())
node.destroy_node()
rclpy.shutdown()
print(json.dumps([heisd_ros.__file__, heisd_ros.msg.__file__]))
"""


def run(command, **environment):
    clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "AMENT_PREFIX_PATH"}}
    return subprocess.run(
        [str(part) for part in command],
        env=clean | environment,
        capture_output=True,
        text=True,
        cwd="/",
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what the build reads: pip builds inside the tree it is given."""
    copy = tmp_path_factory.mktemp("tree")
    for name in INPUTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy)
    return copy


def build_wheel(python, tree, target, **environment):
    # Behind the tests of the other worker, whose nodes have deadlines.
    command = ["nice", "-n", "15", python, "-m", "pip", "wheel", tree, "--no-deps"]
    command.append("--no-build-isolation")
    done = run([*command, "--wheel-dir", target], **environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (wheel,) = target.glob("heisd_ros-*.whl")
    return wheel


def test_wheel_with_ros_brings_messages_that_can_be_published(tree, tmp_path):
    wheel = build_wheel(sys.executable, tree, tmp_path, HEISD_REQUIRE_MESSAGES="1")
    assert "none-any" not in wheel.name
    prefix = tmp_path / "prefix"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--quiet"]
    done = run([*install, "--ignore-installed", "--prefix", prefix, wheel])
    assert done.returncode == 0, done.stderr

    modules = prefix / SITE_PACKAGES.relative_to(sys.prefix)
    sources = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")}
    installed = {str(path.relative_to(modules / "heisd_ros")) for path in modules.rglob("*.py")}
    assert sources <= installed
    assert (prefix / "share/ament_index/resource_index/packages/heisd_ros").is_file()
    assert (prefix / "share/heisd_ros/launch").is_dir()
    assert os.access(prefix / "bin/heisd", os.X_OK)

    # In the prefix of the running environment its libraries would be found without this.
    libraries = f"{prefix / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    result = run([sys.executable, "-c", PROBE], PYTHONPATH=str(modules), LD_LIBRARY_PATH=libraries)
    assert result.returncode == 0, result.stderr
    assert all(file.startswith(str(modules)) for file in json.loads(result.stdout.splitlines()[-1]))
    code = "from heisd_ros.decoding.modes import mode_folder; print(mode_folder())"
    found = run([sys.executable, "-c", code], PYTHONPATH=str(modules))
    assert found.stdout.strip() == str(prefix / "share/heisd_ros/config/modes"), found.stderr


def test_without_ros_the_package_installs_and_says_what_is_missing(tree, tmp_path):
    # A new virtual environment's prefix holds no ROS; it borrows pip and setuptools.
    venv = tmp_path / "venv"
    assert run([sys.executable, "-m", "venv", "--without-pip", venv]).returncode == 0
    python = venv / "bin/python"
    borrowed = {"PYTHONPATH": str(SITE_PACKAGES), "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"}
    wheel = build_wheel(python, tree, tmp_path, **borrowed)
    assert "none-any" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        assert any(
            name.endswith("data/share/heisd_ros/config/modes/heisd.yaml")
            for name in archive.namelist()
        )
        archive.extractall(tmp_path / "unpacked")

    offline = {"PYTHONPATH": f"{tmp_path / 'unpacked'}"}
    assert run([python, "-c", "import heisd_ros.errors"], **offline).returncode == 0
    message = run([python, "-c", "import heisd_ros.msg"], **offline)
    assert message.returncode != 0
    assert "no ROS 2 was found" in message.stderr

    command = [python, "-m", "pip", "wheel", tree, "--no-deps", "--no-build-isolation"]
    refused = run([*command, "--wheel-dir", tmp_path], HEISD_REQUIRE_MESSAGES="1", **borrowed)
    assert refused.returncode != 0
    assert "no ROS 2 found" in refused.stdout + refused.stderr

"""The command `heisd`: its sub-commands exist and are imported late."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from heisd_ros.cli.main import COMMANDS, app


def test_help_lists_every_sub_command_without_importing_one():
    code = (
        "import sys; from heisd_ros.cli.main import app, COMMANDS\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not [n for n in COMMANDS if f'heisd_ros.cli.{n}' in sys.modules]"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_sub_command_has_an_app_and_help(name):
    assert isinstance(importlib.import_module(f"heisd_ros.cli.{name}").app, typer.Typer)
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0 and "Usage" in result.output


def test_an_unknown_sub_command_is_an_error():
    assert CliRunner().invoke(app, ["juggle"]).exit_code == 2


@pytest.mark.parametrize(
    ("lacking", "command"),
    [("rclpy", ["record", "bag"]), ("sensor_msgs", ["view"]), ("heisd_ros.msg", ["view"])],
)
def test_a_command_that_needs_ros_says_so_where_there_is_none(tmp_path, lacking, command):
    code = (
        f"import sys; sys.modules[{lacking!r}] = None\n"
        f"from heisd_ros.cli.main import app; app({command!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1 and not done.stdout
    assert f"needs ROS 2, and there is no {lacking}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

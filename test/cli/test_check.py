"""`heisd check`: the verdict, in one line, without ROS running."""

from __future__ import annotations

import pytest
from support.robots import robot_files, urdf_of
from typer.testing import CliRunner

from heisd_ros.cli.main import app

FILES = robot_files()


def check(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_a_good_file_is_said_to_be_good():
    result = check(FILES["ur5e"])
    assert result.exit_code == 0 and "good" in result.output


def test_frames_are_looked_up_in_the_urdf(tmp_path):
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(urdf_of("ur5e"), encoding="utf-8")
    assert check(FILES["ur5e"], "--urdf", urdf).exit_code == 0
    wrong = check(FILES["xarm7"], "--urdf", urdf)
    assert wrong.exit_code == 1 and "no link 'link_tcp'" in wrong.output


@pytest.mark.parametrize("text", [None, "not a urdf"])
def test_a_urdf_that_cannot_be_read_is_one_line(tmp_path, text):
    urdf = tmp_path / "arm.urdf"
    if text:
        urdf.write_text(text, encoding="utf-8")
    result = check(FILES["ur5e"], "--urdf", urdf)
    assert result.exit_code == 1 and len(result.output.strip().splitlines()) == 1


def test_a_file_to_fill_in_names_what_is_missing():
    result = check(FILES["generic"])
    assert result.exit_code == 1 and "'robot.tip_frame' is ''" in result.output


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("ws://gpu-box:8000", 0, "ws://gpu-box:8000 is asked by `heisd doctor --robot`"),
        ("wss://gpu-box:port", 1, "'model.path' is 'wss://gpu-box:port'"),
    ],
)
def test_a_models_server_is_named_and_not_asked(tmp_path, path, code, words):
    text = FILES["ur5e"].read_text(encoding="utf-8")
    file = tmp_path / "robot.yaml"
    head = "ros__parameters:\n"
    line = "    model.path: " + path + "\n"
    file.write_text(text.replace(head, head + line, 1), encoding="utf-8")
    result = check(file)
    assert result.exit_code == code and words in result.output


def test_a_file_is_checked_for_the_guard_where_that_is_asked(tmp_path):
    good = check(FILES["ur5e"], "--guard")
    assert good.exit_code == 0 and "heisd_guard starts with it" in good.output
    text = FILES["ur5e"].read_text(encoding="utf-8")
    head = "ros__parameters:\n"
    file = tmp_path / "robot.yaml"
    for line, words in (
        ("guard.command_timeout_sec: 0.5", "'guard.command_timeout_sec' is 0.5; accepted: less"),
        ("guard.command_timeout_sec: 0.03", "at least 2 / 'command.rate_hz', 0.04 s"),
    ):
        file.write_text(text.replace(head, f"{head}    {line}\n", 1), encoding="utf-8")
        refused = check(file)  # it sets the guard's parameters, so it is for the guard
        assert refused.exit_code == 1 and words in refused.output
    file.write_text(text.replace(head, f"{head}    guard.margin_m: 0.02\n", 1), encoding="utf-8")
    assert "heisd_guard starts with it" in check(file).output
    assert "heisd_guard" not in check(FILES["ur5e"]).output
    for topic in ("heisd_guard/input/twist", "/heisd_guard/input/twist"):
        looped = text.replace("topics.twist: servo_node/delta_twist_cmds", f"topics.twist: {topic}")
        file.write_text(looped, encoding="utf-8")
        refused = check(file, "--guard")
        assert refused.exit_code == 1 and f"'topics.twist' is {topic!r}" in refused.output
    assert "heisd_guard checks no linear jerk" not in good.output
    file.write_text(text.replace("max_linear_jerk: 40.0", "max_linear_jerk: 0.0"), encoding="utf-8")
    assert "heisd_guard checks no linear jerk" in check(file, "--guard").output

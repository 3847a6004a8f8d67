"""`heisd replay`: files that are the same each time, a regression test, and bad input in a line."""

from __future__ import annotations

import json

import pytest
from support.bags import START
from support.mcaps import write_mcap
from support.pages import Page
from support.replay_bags import IMAGE, INSTRUCTION, PERIOD, cell
from support.tiny_parts import save_tiny_parts
from support.tiny_vla import save_tiny_checkpoint
from typer.testing import CliRunner

from heisd_ros.cli.replay import app

STEPS = 12


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with a model, a bag of it, and a mode that skips."""
    folder = tmp_path_factory.mktemp("lab")
    save_tiny_parts(save_tiny_checkpoint(folder / "model"))
    cell(STEPS, with_telemetry=True).write(folder / "bag")
    (folder / "skip.yaml").write_text("propose: retrieval\nskip: {policy: always}\n")
    return folder


def replay(lab, out, *options, bag="bag", modes="heisd"):
    path = bag if hasattr(bag, "parts") else lab / bag
    arguments = [str(path), "--model", str(lab / "model"), "--report", str(out), "--modes", modes]
    return CliRunner().invoke(app, [*arguments, *map(str, options)])


@pytest.fixture(scope="module")
def first(lab, tmp_path_factory):
    """Results of a replay of three modes."""
    out = tmp_path_factory.mktemp("first")
    result = replay(lab, out, modes=f"heisd,{lab / 'skip.yaml'}")
    assert result.exit_code == 0, result.output
    return out


def test_the_same_bag_gives_the_same_bytes_twice(lab, first, tmp_path):
    result = replay(lab, tmp_path, "--baseline", first, modes=f"heisd,{lab / 'skip.yaml'}")
    assert result.exit_code == 0 and "within tolerance of the baseline" in result.output
    assert (tmp_path / "replay.json").read_bytes() == (first / "replay.json").read_bytes()
    assert (tmp_path / "latency.json").read_bytes() != (first / "latency.json").read_bytes()


def test_no_clock_and_no_path_is_in_the_results(lab, first):
    text = (first / "replay.json").read_text()
    assert str(lab) not in text and str(first) not in text
    results, times = json.loads(text), json.loads((first / "latency.json").read_text())
    assert list(results["modes"]) == list(times["modes"]) == ["ar", "heisd", "skip"]
    for mode, columns in results["steps"].items():
        assert len(columns["observation"]) == STEPS == len(times["modes"][mode]["ms"])
    assert times["modes"]["ar"]["parts_ms"]["prefill"] > 0.0 and times["machine"]


def test_the_page_shows_the_recording_and_every_figure(first):
    page = Page((first / "report.html").read_text())
    pictures = [name for name, _ in page.images]
    assert pictures[:2] == ["What the cameras saw", "End-effector path by source"]
    assert "Latency" in pictures
    for words in ("wrong skips", "deviation from ar", "deviation from recorded", "acceptance"):
        assert any(words in cell for cell in page.cells), words


def test_a_changed_input_moves_the_observations(lab, first, tmp_path):
    """Another tolerance of synchronisation is no other bag or model: it is what is looked for."""
    params = tmp_path / "robot.yaml"
    params.write_text("/**: {ros__parameters: {robot.gripper_joints: [panda_finger_joint1]}}\n")
    result = replay(lab, tmp_path / "out", "--baseline", first, "--params", params)
    assert result.exit_code == 1
    assert "share of steps with other observations was 0, is 1" in result.output
    assert "parameters is another than the baseline's" in result.output


def assert_bad(result, line):
    assert result.exit_code == 2, result.output
    assert any(line in said for said in result.stderr.splitlines()), result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_what_was_read_of_a_truncated_bag_is_reported(lab, tmp_path, storage):
    recording = cell(40, size=128, with_telemetry=True)
    for after, topic, message in recording.entries:
        if topic != INSTRUCTION and after > 4 * PERIOD:
            message.header.stamp.sec -= 100
    bag = recording.write(tmp_path / "bag", storage)
    (file,) = (path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])
    out = tmp_path / "out"
    result = replay(lab, out, bag=bag, modes="ar")
    assert_bad(result, "not read to its end: ")
    assert_bad(result, "the clock of the recording was set back, 1 time(s)")
    assert "recorded action left out: " not in result.stderr
    results = json.loads((out / "replay.json").read_text())
    assert results["recording"]["problem"] and 5 < results["modes"]["ar"]["steps"] < 40
    assert "not read to its end" in (out / "report.html").read_text()


def test_bad_input_is_one_line_and_exit_code_2(lab, first, tmp_path):
    silent = cell(3, words="").write(tmp_path / "silent")
    unknown = cell(3, words="make tea").write(tmp_path / "unknown")
    for options, bag, line in (
        (["--remap", "~/input/image:=/nope"], "bag", "topic /nope is not in the bag"),
        (["--remap", f"~/input/joint_states:={INSTRUCTION}"], "bag", "accepted for ~/input/joint_"),
        (["--remap", "x"], "bag", "remap 'x'; accepted: FROM:=TO"),
        ([], silent, "no instruction: the bag has none"),
        ([], unknown, "no step was taken; holds: {'no_image': 1, 'unknown_instruction': 1}"),
        ([], tmp_path / "none", "does not exist"),
        (["--tolerance", "tokens=-1"], "bag", "tolerance 'tokens=-1'; accepted: NAME=VALUE"),
        (["--tolerance", "speed=1"], "bag", "tolerance 'speed=1'; accepted: NAME=VALUE"),
        (["--baseline", tmp_path], "bag", "replay.json is missing"),
        (["--baseline", first], silent, "the baseline is of bag "),
        (["--db", tmp_path], "bag", str(tmp_path)),
    ):
        assert_bad(replay(lab, tmp_path / "out", *options, bag=bag), line)


def test_a_whole_file_of_another_program_is_read_to_its_end(lab, tmp_path):
    messages = [(topic, START + after, message) for after, topic, message in cell(6).ordered()]
    file = write_mcap(tmp_path / "x.mcap", messages, foreign=("json",), use_statistics=False)
    result = replay(lab, tmp_path / "out", bag=file, modes="ar")
    assert result.exit_code == 0, result.output
    assert "left out: /other/json (json, no ROS 2 message)" in result.output


def test_a_camera_of_another_clock_is_named(lab, tmp_path):
    recording = cell(6)
    for _, topic, message in recording.entries:
        if topic == IMAGE:
            message.header.stamp.sec = 5000
    result = replay(lab, tmp_path / "out", bag=recording.write(tmp_path / "bag"), modes="ar")
    assert result.exit_code == 2, result.output
    said = " ".join(result.output.split())
    assert "the clocks of the topics differ by 169999" in said and f"{IMAGE} -169999" in said

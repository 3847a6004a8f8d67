"""From a moving arm over DDS to a database that a decoder opens, and recordings of every kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from rclpy.lifecycle import TransitionCallbackReturn
from std_msgs.msg import String
from support.cell import LIMITS, Cell
from support.ros import Bench
from support.tiny_vla import INSTRUCTIONS
from typer.testing import CliRunner

from heisd_ros.cli.main import app
from heisd_ros.data.bag import Bag
from heisd_ros.decoding.modes import load_decoder, load_mode
from heisd_ros.decoding.types import Observation
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.nodes import qos
from heisd_ros.nodes.tools.definitions import MessageTypes
from heisd_ros.nodes.tools.recorder_node import RecorderNode, model_name

SUCCESS = TransitionCallbackReturn.SUCCESS
PARAMS = """\
/**:
  ros__parameters:
    robot.source: panda
    sync.tolerance_sec: 0.03
    command.translation_scale: 0.05
    recording.images: [/vla_node/input/image, /vla_node/input/image_wrist]
    recording.joint_states: /vla_node/input/joint_states
    recording.action: twist
    recording.action_topic: /vla_node/output/twist
    recording.pause_sec: 0.0
"""


def heisd(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def record(world, *arguments):
    """`heisd record` as a process in the world's domain."""
    return subprocess.Popen(
        [sys.executable, "-m", "heisd_ros.cli.main", "record", *map(str, arguments)],
        env={**os.environ, "ROS_DOMAIN_ID": str(world.domain_id)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "cell.yaml"
    path.write_text(PARAMS)
    return path


def drive(world, checkpoint):
    """A cell whose arm a node moves with a tiny model."""
    cell = world.add(Cell)
    world.vla_node(checkpoint, {**LIMITS, "command.max_action_age_sec": 5.0})
    world.spin_until(lambda: len(cell.steps()) >= 3 and cell.moves(), "motion", cell.publish)
    return cell


@pytest.mark.slow
def test_a_recorded_run_becomes_a_database_that_a_decoder_opens(
    world, checkpoint, params, tmp_path
):
    cell = drive(world, checkpoint)
    bag, database = tmp_path / "run", tmp_path / "db"
    recorder = record(world, bag, "--params", params, "--instruction", INSTRUCTIONS[0])
    try:
        world.spin_until(
            lambda: cell.count_subscribers("/vla_node/input/image") == 2
            and cell.count_subscribers("/vla_node/output/twist") == 2,
            "the recorder", cell.publish,
        )  # fmt: skip
        world.spin_for(3.0, cell.publish)
        recorder.send_signal(signal.SIGINT)
        output, _ = recorder.communicate(timeout=30)
    finally:
        recorder.kill()
    assert recorder.returncode == 0, output
    assert "/vla_node/output/twist" in output and "Traceback" not in output
    with Bag(bag) as recorded:
        assert recorded.damage == "" and recorded.custom["instruction"] == INSTRUCTIONS[0]
        assert recorded.custom["parameters"] == PARAMS
        assert recorded.custom["model"] == Path(checkpoint).name
        assert recorded.custom["mode"] == "ar"
        steps = list(recorded.messages(["/vla_node/telemetry"]))
    assert steps[0].message.instruction == INSTRUCTIONS[0]
    told = heisd("data", "inspect", bag, "--picture", tmp_path / "run.png")
    assert f"recorded: model: {Path(checkpoint).name}" in told.replace("'", "")
    assert f"recorded: parameters: {len(PARAMS.splitlines())} lines\n" in told
    assert INSTRUCTIONS[0] in told and "20 control steps a second" in told
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    heisd("data", "export", bag, tmp_path / "set", "--images", "png")
    assert (tmp_path / "set/meta/robot.yaml").read_text() == PARAMS
    heisd("db", "build", bag, database, "--params", params, "--model", checkpoint)
    assert "good" in heisd("db", "verify", database, "--model", checkpoint)

    vla = load_checkpoint(checkpoint)
    mode = tmp_path / "mode.yaml"
    mode.write_text("propose: retrieval")
    decoder, _ = load_decoder(vla, load_mode(str(mode)), checkpoint, database=str(database))
    pictures = tuple(np.full((32, 32, 3), 50 * v, np.uint8) for v in range(2))
    result = decoder.infer(
        Observation(images=pictures, instruction=INSTRUCTIONS[0], proprio=np.zeros(7, np.float32))
    )
    assert result.source == "retrieval" and np.isfinite(result.action).all()


def test_messages_of_any_type_are_recorded_with_their_definitions(world, tmp_path):
    bench = world.add(Bench)
    telemetry = bench.create_publisher(String, "/late", qos.latched())
    recorder = world.add(
        RecorderNode,
        tmp_path / "bag",
        ["/vla_node/input/image", "/vla_node/input/joint_states", "/late", "/nobody"],
        {"instruction": "look", "parameters": "a: b"},
        compressed=True,
    )
    telemetry.publish(String(data="latched"))
    world.spin_until(
        lambda: min(recorder.counts[t] for t in ("/late", "/vla_node/input/image")) > 0,
        "messages", bench.publish,
    )  # fmt: skip
    assert "no publisher of /nobody" in recorder.summary()
    recorder.stop()
    world.spin_for(0.1, bench.publish)  # what comes now is not recorded
    with Bag(tmp_path / "bag") as bag:
        assert bag.topics["/vla_node/input/image"] == "sensor_msgs/msg/Image"
        (late,) = bag.messages(["/late"])
        (note,) = bag.messages(["/heisd/note/instruction"])
        images = list(bag.messages(["/vla_node/input/image"]))
    assert (late.message.data, note.message.data) == ("latched", "look")
    assert images[0].message.data.size == 32 * 32 * 3
    assert len(images) == recorder.counts["/vla_node/input/image"]


def test_a_model_that_is_named_is_noted_as_it_is(world, tmp_path):
    recorder = record(
        world, tmp_path / "bag", "--topic", "/words", "--model", "mine", "--seconds", 1
    )
    output, _ = recorder.communicate(timeout=60)
    assert recorder.returncode == 0, output
    with Bag(tmp_path / "bag") as bag:
        assert bag.custom["model"] == "mine" and "mode" not in bag.custom


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", "libero_panda"),
        ("/models/openvla-7b/", "openvla-7b"),
        ("ws://user:secret@box:8000/x?token=1", "ws://box:8000"),
    ],
)
def test_a_model_is_called_by_its_folder_or_server(path, name):
    assert model_name(path) == name


def test_a_killed_recorder_leaves_what_it_wrote(world, tmp_path):
    bench = world.add(Bench)
    publisher = bench.create_publisher(String, "/words", qos.reliable(100))
    recorder = record(world, tmp_path / "bag", "--topic", "/words")
    try:
        world.spin_until(lambda: publisher.get_subscription_count() == 1, "the recorder")
        words = "x" * 100_000
        world.spin_for(1.0, lambda: publisher.publish(String(data=words)))
        file = tmp_path / "bag" / "bag.mcap"
        world.spin_until(lambda: file.stat().st_size > 1_000_000, "a chunk")
    finally:
        recorder.kill()
        recorder.communicate()
    with Bag(tmp_path / "bag") as bag:
        assert len(list(bag.messages(["/words"]))) >= 10
        assert "its bytes end at" in bag.damage


def test_what_cannot_be_recorded_is_said_in_one_line(world, tmp_path):
    (tmp_path / "bag").mkdir()
    for arguments, message in (
        ((tmp_path / "new",), "no topic to record"),
        ((tmp_path / "bag", "--topic", "/words"), "exists already"),
        ((tmp_path / "new", "--params", tmp_path / "none.yaml"), "none.yaml"),
    ):
        recorder = record(world, *arguments)
        output, _ = recorder.communicate(timeout=60)
        assert recorder.returncode == 1 and message in output and "Traceback" not in output
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_recording_with_its_reason(world, tmp_path):
    bench = world.add(Bench)
    publisher = bench.create_publisher(String, "/words", qos.reliable(100))
    recorder = world.add(RecorderNode, tmp_path / "bag", ["/words"], {})
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    recorder._writer.storage.bio, whole = full, recorder._writer.storage.bio
    words = String(data="x" * 200_000)
    world.spin_until(lambda: recorder.failure, "the failure", lambda: publisher.publish(words))
    assert "No space left" in recorder.failure
    recorder.stop()
    full.close()
    whole.close()


def test_definitions_say_what_the_types_are(world):
    types = MessageTypes()
    for name in ("heisd_ros/msg/StepTelemetry", "trajectory_msgs/msg/JointTrajectory"):
        types.message_class(name)
        assert types.store.get_msgdef(name)
    assert (
        types.store.fielddefs["geometry_msgs/msg/TwistStamped"]
        if types.message_class("geometry_msgs/msg/TwistStamped") is TwistStamped
        else False
    )
    with pytest.raises(ValueError, match="nothing/msg/None are not installed"):
        types.message_class("nothing/msg/None")

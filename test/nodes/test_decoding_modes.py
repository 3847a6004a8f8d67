"""The VLA node in other modes than the plain one, over real DDS."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from support.ros import Bench
from support.tiny_parts import save_tiny_parts
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint

from heisd_ros.control.session import check_robot
from heisd_ros.errors import DatabaseError
from heisd_ros.kinematics.robots import panda_urdf
from heisd_ros.nodes.vla_node import VlaNode
from heisd_ros.retrieval.manifest import MANIFEST, Manifest

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture(scope="module")
def equipped(tmp_path_factory):
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("equipped") / "model")
    save_tiny_parts(folder)
    return folder


def start(world, folder, mode):
    bench = world.add(Bench)
    return bench, world.vla_node(folder, {"decoding.mode": str(mode)})


def mode_file(folder, text):
    path = folder / "mode.yaml"
    path.write_text(text)
    return path


def test_retrieval_drafts_and_the_telemetry_says_so(world, equipped, tmp_path):
    bench, _ = start(world, equipped, mode_file(tmp_path, "propose: retrieval"))
    world.spin_until(lambda: len(bench.steps()) >= 3, "steps", bench.publish)
    step = bench.steps()[-1]
    assert step.source == "retrieval" and 0 <= step.accepted <= 7 and 1 <= step.passes <= 7
    assert -1.0 <= step.similarity <= 1.0
    assert step.latency.retrieval > 0.0 and step.latency.draft == 0.0
    assert math.isnan(step.metric.boundary)


def test_a_database_of_another_robot_fails_configure_by_name(world, tmp_path, capfd):
    folder = save_tiny_checkpoint(tmp_path / "model")
    save_tiny_parts(folder)
    manifest = replace(Manifest.read(folder / "database"), robot="ur5e")
    (folder / "database" / MANIFEST).write_text(manifest.sealed().to_json())
    mode = mode_file(tmp_path, "propose: retrieval")
    parameters = {"model.path": str(folder), "decoding.mode": str(mode)}
    node = world.add(VlaNode, parameters=parameters)
    assert node.trigger_configure() == FAILURE
    assert "of the robot 'ur5e', but the robot description is of 'panda'" in capfd.readouterr().err
    with pytest.raises(DatabaseError, match=r"accepted: a 'decoding\.mode'"):
        check_robot(SimpleNamespace(robot="ur5e"), panda_urdf())
    check_robot(SimpleNamespace(robot=""), panda_urdf())


def test_slow_motion_is_drafted_by_the_drafter(world, equipped, tmp_path):
    text = "propose: hybrid\nboundary: {metric: speed}"
    bench, _ = start(world, equipped, mode_file(tmp_path, text))
    world.spin_until(
        lambda: any("F " in step.reason for step in bench.steps()), "a metric", bench.publish
    )
    step = bench.steps()[-1]
    assert step.source == "drafter" and step.passes >= 2 and step.metric.kind == "speed"
    assert step.latency.draft > 0.0 and math.isnan(step.similarity)
    bounds = Manifest.read(equipped / "database").bounds["speed"]
    assert step.metric.boundary == bounds.boundary


def test_a_skipped_step_commands_the_retrieved_action_and_is_verified_after(
    world, equipped, tmp_path
):
    text = "propose: retrieval\nskip: {policy: always, shadow_share: 1.0}"
    bench, node = start(world, equipped, mode_file(tmp_path, text))
    # The tiny model says something else than the entries: the next command is its own. On a busy
    # machine a hold may come between the two, and ends the episode.
    world.spin_until(
        lambda: any(step.corrected for step in bench.steps()), "a correction", bench.publish
    )
    first, *following = bench.steps()
    assert (first.source, first.passes, first.accepted) == ("skip", 0, -1)
    assert first.latency.settle == 0.0
    corrected = next(step for step in following if step.corrected)
    assert corrected.latency.settle > 0.0 and corrected.source != "skip"
    shadow = node._control.policy.shadow
    assert shadow["checked"] >= shadow["disagreed"] >= 1


def test_a_calibrated_mode_without_a_calibration_warns_and_does_not_skip(world, equipped, tmp_path):
    mode = tmp_path / "calibrated_speed.yaml"
    mode.write_text("base: speed_switch\nskip: {policy: calibrated}\n")
    bench = world.add(Bench)
    heard = []
    bench.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    parameters = {
        "model.path": str(equipped),
        "model.threads": 1,
        "instruction": INSTRUCTIONS[0],
        "decoding.mode": str(mode),
    }
    node = world.add(VlaNode, parameters=parameters)
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS

    def warned():
        return [
            status.message
            for message in heard
            for status in message.status
            if status.level == DiagnosticStatus.WARN
        ]

    world.spin_until(lambda: any("no calibration" in m for m in warned()), "warning", bench.publish)
    assert all(step.source != "skip" for step in bench.steps())


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fast", "unknown mode 'fast'"),
        ("rsd", "heisd db build"),
        ("dsd", "heisd train drafter"),
    ],
)
def test_what_a_mode_lacks_fails_configure_by_name(world, checkpoint, capfd, mode, message):
    parameters = {"model.path": str(checkpoint), "decoding.mode": mode}
    node = world.add(VlaNode, parameters=parameters)
    assert node.trigger_configure() == FAILURE
    lines = [line for line in capfd.readouterr().err.splitlines() if "configure failed" in line]
    assert len(lines) == 1 and message in lines[0]

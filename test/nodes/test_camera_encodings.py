"""Cameras of other encodings, and a cv_bridge that ends its process, over real DDS."""

from __future__ import annotations

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from support import cv_bridges
from support.pictures import message_of, yuv_message
from support.process import launch
from support.recorder import numbers
from support.ros import DO_NOT_FOLLOW, Bench
from support.tiny_vla import INSTRUCTIONS

from heisd_ros.data import bridge

SUCCESS = TransitionCallbackReturn.SUCCESS


def shades(bench, make):
    """Lets the bench publish pictures, each of another shade."""

    def picture(stamp):
        message = make(np.full((32, 32, 3), next(bench.shade) % 200, np.uint8))
        message.header.stamp = stamp
        return message

    bench.image_of = dict.fromkeys(bench.image_of, picture)


def untyped(rgb):
    return message_of(rgb, "8UC3", padding=2)


def refusals(bench):
    return [m.reason for m in bench.telemetry if m.hold and "'8UC3'" in m.reason]


def start(world, checkpoint):
    bench = world.add(Bench)
    world.vla_node(checkpoint)
    return bench


def test_a_camera_without_a_parameter_file_moves_the_arm(world, checkpoint):
    """usb_cam says yuv422_yuy2 unless it is told otherwise."""
    bench = start(world, checkpoint)
    shades(bench, lambda rgb: yuv_message(rgb, "yuv422_yuy2", padding=6))
    world.spin_until(bench.steps, "a step", bench.publish)
    shades(bench, lambda rgb: message_of(rgb[:, :31, :2], "yuv422_yuy2"))
    world.spin_until(lambda: "bad_image" in bench.holds(), "bad_image", bench.publish)
    assert "accepted of yuv422_yuy2: even width" in bench.telemetry[-1].reason


def test_a_cv_bridge_that_works_is_used_when_it_is_needed(world, checkpoint, tmp_path, monkeypatch):
    cv_bridges.install(monkeypatch, tmp_path, "works")
    bench = start(world, checkpoint)
    world.spin_until(bench.steps, "a step with rgb8", bench.publish)
    assert bridge._trial.cache_info().misses == 0, "it was tried for nothing"
    shades(bench, untyped)
    world.spin_for(0.2, bench.publish)
    bench.telemetry.clear()
    world.spin_until(bench.steps, "a step with 8UC3", bench.publish)
    assert bridge.problem() == ""
    cv_bridges.forget()


def holds_by_name(world, bench):
    """8UC3 is refused by name and the arm held; rgb8 moves it before and after."""
    world.spin_until(bench.steps, "a step with rgb8", bench.publish)
    rgb8 = bench._fresh_image
    shades(bench, untyped)
    refused = lambda: any("not used: a test picture" in reason for reason in refusals(bench))  # noqa: E731
    world.spin_until(refused, "the refusal", bench.publish)
    stands = lambda: numbers(bench.twists[-1]) == [0.0] * 6  # noqa: E731
    world.spin_until(stands, "the arm held", bench.publish)
    bench.telemetry.clear()
    bench.image_of = dict.fromkeys(bench.image_of, rgb8)
    world.spin_until(bench.steps, "a step with rgb8 again", bench.publish)


@pytest.mark.parametrize("kind", ["raises", "shears"])
def test_a_cv_bridge_that_does_not_work_is_refused(world, checkpoint, tmp_path, monkeypatch, kind):
    cv_bridges.install(monkeypatch, tmp_path, kind)
    holds_by_name(world, start(world, checkpoint))
    cv_bridges.forget()


def test_a_cv_bridge_that_ends_its_process_does_not_end_the_node(
    world, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(cv_bridges.write(tmp_path, "dies")))
    bench = world.add(Bench)
    process = launch(
        world,
        "heisd_ros.nodes.vla_node",
        autostart="true",
        model__path=checkpoint,
        instruction=INSTRUCTIONS[0],
        **{name.replace(".", "__"): value for name, value in DO_NOT_FOLLOW.items()},
    )
    try:
        holds_by_name(world, bench)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()

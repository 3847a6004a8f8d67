"""Debug pictures: their content, no cost without subscribers, and bounded memory."""

from __future__ import annotations

import itertools
import math
import threading

import numpy as np
import pytest
from heisd_ros.msg import KinematicMetric, StepChunk, StepTelemetry
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from heisd_ros.data.images import raw_to_rgb
from heisd_ros.errors import ImageError
from heisd_ros.nodes import debug
from heisd_ros.nodes.debug import DebugViews, box_marker, colour, overlay, overlay_lines

BOX = ((0.2, -0.3, 0.0), (0.6, 0.3, 0.5))


def step(source="skip", ready=True, **fields):
    metric = KinematicMetric(ready=ready, value=0.5 if ready else math.nan)
    return StepTelemetry(source=source, metric=metric, twist=[0.3, 0.4, 0, 0, 0, 1.0], **fields)


def views(world, newest=lambda: None, to_rgb=raw_to_rgb, box=BOX, tip=lambda: None):
    return DebugViews(world.add(Node, "vla_node"), "base", box, newest, to_rgb, tip)


def listen(world, kind, topic):
    heard = []
    world.add(Node, "viewer").create_subscription(kind, topic, heard.append, 10)
    return heard


def test_path_has_the_colours_of_its_sources_and_the_box_its_own_frame(world):
    tips = iter([*(np.array([number, 0.0, 0.0]) for number in range(3)), None])
    seen = views(world, tip=lambda: next(tips))
    heard = listen(world, MarkerArray, "/vla_node/debug/markers")
    for source in ("last_command", "drafter", "hold", "skip"):
        seen.note(step(source))
    world.spin_until(lambda: heard, "markers")
    path, tip, box = heard[-1].markers
    assert (path.type, path.header.frame_id) == (Marker.LINE_STRIP, "base")
    assert [point.x for point in path.points] == [0.0, 1.0, 2.0]
    for shade, source in zip(path.colors, ("last_command", "drafter", "hold"), strict=True):
        assert shade.r == pytest.approx(colour(source).r)
    assert (tip.type, tip.pose.position.x) == (Marker.SPHERE, 2.0)
    assert (box.type, box.header.frame_id) == (Marker.CUBE, "base")
    assert (box.scale.x, box.pose.position.z) == pytest.approx((0.4, 0.25))


def test_the_path_is_bounded(world):
    tips = (np.array([number, 0.0, 0.0]) for number in itertools.count())
    seen = views(world, box=None, tip=lambda: next(tips))
    heard = listen(world, MarkerArray, "/vla_node/debug/markers")
    for _ in range(2 * debug.PATH_POINTS):
        seen.note(step())
    world.spin_until(lambda: heard, "markers")
    path, _ = heard[-1].markers
    assert len(path.points) == debug.PATH_POINTS
    assert path.points[-1].x == 2 * debug.PATH_POINTS - 1


def test_nothing_is_drawn_while_nobody_looks(world):
    asked = []
    views(world, newest=lambda: asked.append(1))
    world.spin_for(0.6)
    assert not asked


def test_the_overlay_is_a_picture_with_words_at_its_foot(world):
    black = np.zeros((96, 128, 3), np.uint8)
    seen = views(world, lambda: black, to_rgb=lambda pixels: pixels)
    seen.note(step())
    heard = listen(world, Image, "/vla_node/debug/overlay")
    world.spin_until(lambda: heard, "an overlay")
    pixels = raw_to_rgb(heard[-1])
    assert pixels.shape == black.shape
    assert pixels[-28:].any() and not pixels[:-28].any()


def test_a_picture_that_does_not_decode_is_left_out(world):
    pictures = iter([ImageError("no picture"), RuntimeError("no such thing"), None])
    black = np.zeros((96, 128, 3), np.uint8)

    def to_rgb(message):
        fault = next(pictures, None)
        if fault is not None:
            raise fault
        return black

    views(world, lambda: "message", to_rgb)
    heard = listen(world, Image, "/vla_node/debug/overlay")
    world.spin_until(lambda: heard, "the picture after those")
    assert next(pictures, "none left") == "none left"


def test_a_picture_that_takes_long_keeps_nobody_and_the_newest_is_next(world):
    begun, done = threading.Event(), threading.Event()
    looked, drawn = [], []

    def slow(number):
        drawn.append(number)
        begun.set()
        assert done.wait(30.0)
        return np.zeros((96, 128, 3), np.uint8)

    seen = views(world, lambda: looked.append(len(looked)) or looked[-1], slow)
    heard = listen(world, Image, "/vla_node/debug/overlay")
    world.spin_until(begun.is_set, "the first picture")
    world.spin_until(lambda: len(looked) > 3, "further looks, as the executor goes on")
    newest = looked[-1]
    assert drawn == [0] and not heard
    done.set()
    world.spin_until(lambda: len(drawn) == 2, "the next picture")
    assert drawn[1] >= newest
    seen.close()


def test_closing_takes_the_topics_down(world):
    seen = views(world)
    node = world.add(Node, "looks")
    world.spin_until(lambda: node.count_publishers("/vla_node/debug/markers") == 1, "the topic")
    seen.close()
    world.spin_until(lambda: node.count_publishers("/vla_node/debug/markers") == 0, "its end")


def test_wide_pictures_are_made_smaller():
    assert overlay(np.zeros((1080, 1920, 3), np.uint8), step()).shape == (360, 640, 3)


def test_the_words_are_source_metric_and_command_or_the_hold():
    assert overlay_lines(None) == ["no step yet"]
    words = " ".join(overlay_lines(step(gripper=0.08)))
    assert all(part in words for part in ("skip", "0.50", "0.500 m/s", "1.00 rad/s", "0.080 m"))
    assert "metric -" in overlay_lines(step(ready=False))[1]
    assert "chunk" not in words
    chunk = StepChunk(number=12, index=2, length=10, delay=85.0)
    assert overlay_lines(step(chunk=chunk))[0].endswith("  chunk 12: 3/10, 85 ms")
    held = overlay_lines(step("hold", hold=True, reason="stale_image: ünclear"))
    assert held == ["HOLD stale_image: ?nclear"]
    by_hand = step("person", commander="person", disagreement=0.25)
    assert overlay_lines(by_hand)[0] == "PERSON  step 0  disagreement 0.25"
    let_go = step("hold", hold=True, reason="takeover: let go", commander="person")
    assert overlay_lines(let_go) == ["HOLD takeover: let go (person)"]


def test_what_the_model_says_is_below_as_far_as_there_is_room():
    said = "Put the spöön on it. PLAN: " + "reach " * 300 + "MOVE: move down ACTION:"
    lines = overlay_lines(step(reasoning=said), width=40)
    assert len(lines) == 2 + debug.REASONING_LINES and all(len(line) <= 40 for line in lines[2:])
    assert " ".join(lines).endswith("MOVE: move down ACTION:")
    assert "sp??n" in overlay_lines(step(reasoning="spöön"), width=40)[-1]
    for words in (said, "x" * 2000, "\x00\u202e\n\n" * 20, " " * 2000):
        for shape in ((4, 6, 3), (48, 64, 3), (480, 640, 3)):
            drawn = overlay(np.zeros(shape, np.uint8), step(reasoning=words))
            assert drawn.shape == shape and drawn.dtype == np.uint8


def test_one_point_is_no_path():
    assert debug.path_markers([(np.zeros(3), "skip")], Header()) == []
    assert box_marker(BOX, Header()).action == Marker.ADD

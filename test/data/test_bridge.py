"""cv_bridge is used if it converts test pictures correctly, and does no harm otherwise."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from support import cv_bridges
from support.pictures import message_of

from heisd_ros.cli import machine_checks
from heisd_ros.data import bridge
from heisd_ros.data.encodings import TYPED
from heisd_ros.data.images import check_raw, raw_to_rgb
from heisd_ros.errors import ImageError

WRONG = {
    "shears": "8UC1 became another picture",
    "swaps": "bgr8 became another picture",
    "raises": "raised RuntimeError: no such picture",
    "dies": "ended its process (Segmentation fault): is it built for another NumPy?",
    "leaves": "ended its process with exit code 0",
    "dies at import": "ended its process (Aborted)",
    "fails at import": "numpy.core.multiarray failed to import",
    "hangs": "more than 1 s",
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Makes a cv_bridge of a kind the one that is found."""
    yield lambda kind: cv_bridges.install(monkeypatch, tmp_path, kind)
    cv_bridges.forget()


def test_what_cv_bridge_reads_becomes_rgb(install):
    install("works")
    colours = np.random.default_rng(0).integers(0, 256, (4, 6, 4), np.uint8)
    rgb = colours[:, :, 2::-1]
    for padding in range(4):
        for big in (False, True):
            for name, encoding in TYPED.items():
                scale = {"8U": 1, "16": 257, "32": np.float32(1 / 255)}[name[:2]]
                pixels = colours[:, :, : encoding.channels].astype(encoding.dtype) * scale
                grey = encoding.channels == 1
                message = message_of(pixels[:, :, 0] if grey else pixels, name, padding, big)
                expected = np.repeat(colours[:, :, :1], 3, axis=2) if grey else rgb
                np.testing.assert_array_equal(raw_to_rgb(message), expected, name)


@pytest.mark.parametrize("kind", WRONG)
def test_a_cv_bridge_that_does_not_work_is_not_used(install, monkeypatch, kind):
    monkeypatch.setattr(bridge, "LIMIT_SEC", 1)
    if kind != "hangs":
        monkeypatch.setattr(bridge, "LIMIT_SEC", 60)
    install(kind)
    message = message_of(np.zeros((4, 4, 3), np.uint8), "8UC3")
    ends, trial = threading.Event(), bridge._try
    monkeypatch.setattr(bridge, "_try", lambda: ends.wait() and trial())
    check_raw(message)  # accepted while it is being tried; nobody waits
    ends.set()
    for refuse in (raw_to_rgb, check_raw):
        with pytest.raises(ImageError) as refused:
            refuse(message)
        assert "'8UC3'" in str(refused.value) and WRONG[kind] in str(refused.value)
    assert "accepted: rgb8" in str(refused.value)
    raw_to_rgb(message_of(np.zeros((4, 4, 3), np.uint8), "rgb8"))
    finding = machine_checks.cv_bridge()
    assert finding.level == "warning" and WRONG[kind] in finding.text
    assert "cv_bridge" not in sys.modules, "it was imported into this process"


def test_other_encodings_do_without(install):
    install("dies")
    for name in ("rgb8", "mono8"):
        pixels = np.zeros((4, 4, 3), np.uint8) if name == "rgb8" else np.zeros((4, 4), np.uint8)
        raw_to_rgb(message_of(pixels, name))
    assert bridge._trial.cache_info().misses == 0, "it was tried for nothing"


def test_a_cv_bridge_that_fails_later_is_named(install, monkeypatch):
    install("works")
    message = message_of(np.zeros((4, 4, 3), np.uint8), "8UC3")
    raw_to_rgb(message)
    for answer in (None, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint16)):
        monkeypatch.setattr(bridge._bridge(), "imgmsg_to_cv2", lambda *a, made=answer, **k: made)
        with pytest.raises(ImageError, match="8UC3"):
            raw_to_rgb(message)
    monkeypatch.undo()


def test_a_depth_image_is_no_picture(install):
    install("works")
    metres = np.linspace(0.3, 4.0, 16, dtype=np.float32).reshape(4, 4)
    for values in (metres, np.full((4, 4), np.nan, np.float32)):
        with pytest.raises(ImageError, match=r"values from .*accepted of floating point: 0 to 1"):
            raw_to_rgb(message_of(values, "32FC1"))
    with pytest.raises(ImageError, match="'16UC1'; accepted: rgb8"):
        check_raw(message_of(np.ones((4, 4), np.uint16), "16UC1"))


def test_the_doctor_says_that_it_works(install):
    install("works")
    assert machine_checks.cv_bridge().level == "good"
    assert "used for 8UC1" in machine_checks.cv_bridge().text


def test_where_there_is_none_nothing_is_tried(monkeypatch):
    monkeypatch.setattr(bridge, "installed", lambda: False)
    cv_bridges.forget()
    with pytest.raises(ImageError, match=r"'8UC3', which cv_bridge reads.* it is not installed"):
        check_raw(message_of(np.zeros((4, 4, 3), np.uint8), "8UC3"))
    cv_bridges.forget()

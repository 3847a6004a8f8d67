"""Encodings of cameras: colours against independent formulas, padding, byte order, sizes."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from sensor_msgs.msg import CompressedImage
from support.pictures import MOSAICS, message_of, mosaic_of, random_message, yuv_message

from heisd_ros.data import encodings, images
from heisd_ros.data.encodings import ENCODINGS, TYPED
from heisd_ros.data.images import check_raw, compressed_to_rgb, raw_to_rgb
from heisd_ros.errors import ImageError

UNTYPED = sorted(set(ENCODINGS) - set(TYPED))
PRIMARIES = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 30)], np.uint8
)


def squares(numbers, height=12, width=16):
    """RGB in squares of two by two pixels: primaries and random colours."""
    colours = numbers.integers(0, 256, (height // 2, width // 2, 3), np.uint8)
    colours.reshape(-1, 3)[: len(PRIMARIES)] = PRIMARIES
    return colours.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
@pytest.mark.parametrize("padding", [0, 1, 6])
def test_yuv_is_that_of_bt_601(encoding, padding):
    rgb = squares(np.random.default_rng(1))
    converted = raw_to_rgb(yuv_message(rgb, encoding, padding)).astype(int)
    assert np.abs(converted - rgb).max() <= 4  # rounded to 8 bits twice


@pytest.mark.parametrize("pattern", MOSAICS)
@pytest.mark.parametrize("bits", [8, 16])
def test_a_mosaic_has_the_colours_of_what_the_sensor_saw(pattern, bits):
    scale = 1 if bits == 8 else 257
    for colour in PRIMARIES:
        rgb = np.broadcast_to(colour, (6, 7, 3))
        deep = rgb.astype(np.uint8 if bits == 8 else np.uint16) * scale
        message = message_of(mosaic_of(deep, pattern), f"bayer_{pattern}{bits}", padding=3)
        np.testing.assert_array_equal(raw_to_rgb(message), rgb)
    ramp = np.indices((12, 12)).sum(axis=0).astype(np.uint8) * 9  # the mean of neighbours is right
    rgb = np.stack([ramp, 255 - ramp, ramp // 2 + 20], axis=2)
    message = message_of(mosaic_of(rgb, pattern), f"bayer_{pattern}8")
    inside = np.s_[1:-1, 1:-1]
    assert np.abs(raw_to_rgb(message)[inside].astype(int) - rgb[inside]).max() <= 1


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bgr16", "rgba16", "bgra16"])
@pytest.mark.parametrize("big", [False, True])
def test_16_bits_become_8_in_either_byte_order(encoding, big):
    channels = ENCODINGS[encoding].channels
    deep = np.random.default_rng(2).integers(0, 65536, (5, 7, channels), np.uint16)
    expected = np.rint(deep * (255 / 65535)).astype(np.uint8)[:, :, :3]
    expected = expected[:, :, ::-1] if encoding.startswith("bgr") else expected
    expected = np.repeat(expected, 3, axis=2) if channels == 1 else expected
    message = message_of(deep, encoding, padding=3, big=big)
    np.testing.assert_array_equal(raw_to_rgb(message), expected)


@given(
    encoding=st.sampled_from(UNTYPED),
    height=st.integers(2, 6).map(lambda half: 2 * half),
    width=st.integers(2, 6).map(lambda half: 2 * half),
    padding=st.integers(1, 19),
    big=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_padded_rows_change_nothing(encoding, height, width, padding, big, seed):
    plain = raw_to_rgb(random_message(encoding, height, width, 0, big, seed))
    padded = raw_to_rgb(random_message(encoding, height, width, padding, big, seed))
    assert plain.shape == (height, width, 3) and plain.dtype == np.uint8
    assert padded.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(plain, padded)


@given(
    encoding=st.sampled_from(UNTYPED),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    change=st.sampled_from(["step", "shorter", "longer", "width", "height", "none"]),
)
def test_what_does_not_fit_is_refused_before_it_is_converted(encoding, height, width, change):
    message = random_message(encoding, height, width)
    layout = ENCODINGS[encoding]
    odd = ("width" in layout.even and width % 2) or ("height" in layout.even and height % 2)
    fits = not odd and min(width, height) >= layout.least_side and change == "none"
    if change == "step":
        message.step -= 1
    elif change in ("shorter", "longer"):
        message.data = message.data[:-1] if change == "shorter" else [*message.data, 0]
    elif change != "none":
        setattr(message, change, getattr(message, change) + 2)
    if fits:
        assert raw_to_rgb(message).shape == (height, width, 3)
    else:
        with pytest.raises(ImageError, match="accepted"):
            check_raw(message)


@pytest.mark.parametrize(
    ("encoding", "height", "width", "named"),
    [
        ("yuv422_yuy2", 4, 5, "5 x 4 pixels; accepted of yuv422_yuy2: even width"),
        ("nv12", 3, 4, "4 x 3 pixels; accepted of nv12: even width and height"),
        ("nv21", 4, 3, "3 x 4 pixels; accepted of nv21: even width and height"),
        ("bayer_rggb8", 2, 8, "8 x 2 pixels; accepted of bayer_rggb8: at least 3 a side"),
    ],
)
def test_sides_that_do_not_fit_are_named(encoding, height, width, named):
    with pytest.raises(ImageError, match=re.escape(named)):
        check_raw(random_message(encoding, height, width))


def test_too_many_bytes_are_named():
    message = random_message("mono8", 4, 4)
    message.height = 3
    with pytest.raises(ImageError, match="16 bytes; accepted: 12 for 3 rows of 4"):
        check_raw(message)


def test_without_opencv_its_encodings_are_refused_and_ours_are_not(monkeypatch):
    monkeypatch.setattr(images, "OPENCV_PROBLEM", "numpy.core.multiarray failed to import")
    monkeypatch.setattr(encodings, "_OPENCV", None)
    for name in UNTYPED:
        message = random_message(name, 4, 4)
        if name in images.CHANNELS:
            raw_to_rgb(message)
            continue
        with pytest.raises(ImageError) as refused:
            check_raw(message)
        assert "multiarray" in str(refused.value) and "accepted: rgb8" in str(refused.value)
        assert "nv12," not in str(refused.value)


def png(pixels, kind="PNG"):
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("said", ["jpeg", "png", "rgb8; png compressed bgr8", "bgra8; png", ""])
def test_the_colours_of_a_file_are_its_own(said):
    rgb = squares(np.random.default_rng(3))
    message = CompressedImage(format=said, data=png(rgb))
    np.testing.assert_array_equal(compressed_to_rgb(message), rgb)


@pytest.mark.parametrize("pattern", MOSAICS)
def test_a_compressed_mosaic_becomes_colours(pattern):
    rgb = np.broadcast_to(PRIMARIES[-1], (8, 8, 3))
    for bits, scale in ((8, 1), (16, 257)):
        mosaic = mosaic_of(rgb.astype(np.uint8 if bits == 8 else np.uint16) * scale, pattern)
        said = f"bayer_{pattern}{bits}; png compressed "
        converted = compressed_to_rgb(CompressedImage(format=said, data=png(mosaic)))
        np.testing.assert_array_equal(converted, rgb)
    grey = f"bayer_{pattern}8; jpeg compressed mono8"  # converted before it was compressed
    converted = compressed_to_rgb(CompressedImage(format=grey, data=png(mosaic_of(rgb, pattern))))
    np.testing.assert_array_equal(converted[:, :, 0], converted[:, :, 2])
    with pytest.raises(ImageError, match="8 x 2 pixels; accepted"):
        said = f"bayer_{pattern}8; png compressed "
        compressed_to_rgb(CompressedImage(format=said, data=png(mosaic_of(rgb[:2], pattern))))


def test_16_bits_of_grey_are_a_picture_where_the_format_says_so():
    deep = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    data = png(deep)
    converted = compressed_to_rgb(CompressedImage(format="mono16; png compressed ", data=data))
    np.testing.assert_array_equal(converted[:, :, 1], np.rint(deep * (255 / 65535)))
    for said in ("png", "16UC1; png compressed ", "bayer_rggb8; png compressed "):
        with pytest.raises(ImageError, match="16 bits or more a channel; accepted: 8"):
            compressed_to_rgb(CompressedImage(format=said, data=data))

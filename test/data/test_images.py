"""Image conversion: encodings, row padding, bad messages."""

from __future__ import annotations

import contextlib
import io
import re
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from sensor_msgs.msg import CompressedImage, Image

from heisd_ros.data.images import CHANNELS, compressed_to_rgb, raw_to_rgb
from heisd_ros.errors import ImageError


def message_of(rgb, encoding, padding=0):
    """An image message of RGB pixels in an encoding, with padded rows."""
    height, width, _ = rgb.shape
    order = [2, 1, 0] if encoding.startswith("bgr") else [0, 1, 2]
    pixels = rgb[:, :, :1] if encoding == "mono8" else rgb[:, :, order]
    if CHANNELS[encoding] == 4:
        alpha = np.full((height, width, 1), 77, np.uint8)
        pixels = np.concatenate([pixels, alpha], axis=2)
    rows = pixels.reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    message = Image(height=height, width=width, encoding=encoding, step=rows.shape[1])
    message.data.frombytes(rows.tobytes())
    return message


@given(
    encoding=st.sampled_from(sorted(CHANNELS)),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 7),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_encoding_and_padding_gives_the_pixels_back(encoding, height, width, padding, seed):
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if encoding == "mono8":
        rgb[:] = rgb[:, :, :1]
    converted = raw_to_rgb(message_of(rgb, encoding, padding))
    assert converted.dtype == np.uint8 and converted.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(converted, rgb)


def changed(**fields):
    message = message_of(np.zeros((2, 3, 3), np.uint8), "rgb8")
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (changed(width=0), "0 x 2 pixels"),
        (changed(height=0), "3 x 0 pixels"),
        (changed(encoding="16UC1"), "'16UC1'; accepted: rgb8"),
        (changed(step=8), "step is 8 bytes; accepted: at least 9"),
        (changed(height=3), "18 bytes; accepted: 27"),
        (changed(width=2**32 - 1), "4294967295 x 2 pixels"),
        (changed(width=16000, height=16000), "16000 x 16000 pixels"),
        (changed(encoding="x" * 10**6), "'x{40}'; accepted: rgb8"),
    ],
)
def test_bad_images_are_named(message, text):
    with pytest.raises(ImageError, match=text):
        raw_to_rgb(message)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_compressed_images_decode_to_rgb(kind, mode):
    file = io.BytesIO()
    Picture.new("RGB", (5, 4), (200, 100, 50)).convert(mode).save(file, kind)
    pixels = compressed_to_rgb(CompressedImage(format=kind.lower(), data=file.getvalue()))
    assert pixels.shape == (4, 5, 3) and pixels.dtype == np.uint8
    expected = (200, 100, 50) if mode == "RGB" else (124, 124, 124)
    np.testing.assert_allclose(pixels[0, 0], expected, atol=3)


def encoded(kind, mode="RGB", size=(64, 48)):
    file = io.BytesIO()
    Picture.new(mode, size, 9).save(file, kind)
    return file.getvalue()


def sized(width, height, kind="PNG"):
    """A picture whose header claims a size."""
    if kind == "PNG":
        return encoded("PNG")[:16] + struct.pack(">II", width, height) + encoded("PNG")[24:]
    start = encoded("JPEG").index(b"\xff\xc0") + 5
    claimed = struct.pack(">HH", height, width)
    return encoded("JPEG")[:start] + claimed + encoded("JPEG")[start + 4 :]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "0 bytes"),
        (b"no image", "begins with b'no image'; accepted: JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "begins with b'%!PS-Ado'"),
        (encoded("DDS"), "begins with b'DDS"),
        (encoded("TIFF"), "begins with"),
        (encoded("GIF", "P"), "begins with b'GIF"),
        (b"\x89PNG\r\n\x1a\nxx", "ends within its header"),
        (encoded("JPEG")[:20], "ends within its header"),
        (b"\xff\xd8" + b"\xff\xfe\x00\x02" * 5000, "header says no size"),
        (b"\xff\xd8\xff\xe0\x00\x00" + bytes(99), "header says no size"),
        (b"\xff\xd8" + b"\xff" * 99, "ends within its header"),
        (encoded("JPEG")[:400], "'jpeg' does not decode"),
        (encoded("PNG")[:60], "'jpeg' does not decode"),
        (sized(13300, 13300), "13300 x 13300 pixels; accepted: above 0, up to 16384"),
        (sized(13300, 13300, "JPEG"), "13300 x 13300 pixels"),
        (encoded("PNG", "I;16"), "16 bits"),
        (sized(0, 5), "0 x 5 pixels"),
        (sized(2**31, 1), "2147483648 x 1 pixels"),
    ],
)
def test_compressed_images_that_are_none_are_named(data, named):
    with pytest.raises(ImageError, match=re.escape(named)):
        compressed_to_rgb(CompressedImage(format="jpeg", data=data))


@given(st.sampled_from(["PNG", "JPEG"]), st.data())
def test_a_damaged_picture_raises_no_other_error(kind, data):
    whole = bytearray(encoded(kind))
    for place in data.draw(st.lists(st.integers(8, len(whole) - 1), max_size=6)):
        whole[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        compressed_to_rgb(CompressedImage(format=kind.lower(), data=bytes(whole)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_half_a_picture_is_none(kind):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Picture.fromarray(noise).save(file, kind)
    data = file.getvalue()
    for kept in (len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(ImageError, match="does not decode"):
            compressed_to_rgb(CompressedImage(format=kind.lower(), data=data[:kept]))


def test_a_large_picture_may_be_decoded_smaller():
    message = CompressedImage(format="jpeg", data=encoded("JPEG", size=(1600, 1200)))
    assert compressed_to_rgb(message, least_side=400).shape == (600, 800, 3)
    assert compressed_to_rgb(message).shape == (1200, 1600, 3)


def test_what_is_neither_jpeg_nor_png_meets_no_decoder():
    buffer = io.BytesIO()
    Picture.new("RGB", (8, 8)).save(buffer, "DDS")
    data = bytearray(buffer.getvalue())
    data[80:84] = bytes(4)  # flags of the pixel format
    with pytest.raises(ImageError, match=r"begins with b'DDS.*'; accepted: JPEG, PNG"):
        compressed_to_rgb(CompressedImage(data=bytes(data), format="jpeg"))

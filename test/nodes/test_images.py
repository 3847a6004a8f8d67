"""Image conversion: encodings, row padding, bad messages."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from sensor_msgs.msg import CompressedImage, Image

from heisd_ros.errors import ImageError
from heisd_ros.nodes.images import CHANNELS, compressed_to_rgb, raw_to_rgb


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


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\nxx"])
def test_compressed_images_that_are_none_are_named(data):
    with pytest.raises(ImageError, match=r"0 bytes|'jpeg' does not decode"):
        compressed_to_rgb(CompressedImage(format="jpeg", data=data))


def test_errors_of_every_decoder_are_named():
    """Pillow's decoders raise what they like: this one NotImplementedError."""
    buffer = io.BytesIO()
    Picture.new("RGB", (8, 8)).save(buffer, "DDS")
    data = bytearray(buffer.getvalue())
    data[80:84] = bytes(4)  # flags of the pixel format
    with pytest.raises(ImageError, match=r"'jpeg' does not decode .*; accepted: JPEG or PNG"):
        compressed_to_rgb(CompressedImage(data=bytes(data), format="jpeg"))

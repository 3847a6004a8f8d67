"""Camera messages to RGB arrays, by the messages' fields alone. Knows no ROS."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from heisd_ros.data.text_files import one_line
from heisd_ros.errors import ImageError

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
"""Accepted encodings of a raw image and their channels, one byte each."""


def check_raw(message: Any) -> None:
    """Checks a sensor_msgs/Image without touching its pixels.

    Raises:
        ImageError: Zero size, an encoding that is not accepted, or too few bytes for the size.
    """
    if message.width == 0 or message.height == 0:
        raise ImageError(f"image is {message.width} x {message.height} pixels; accepted: above 0")
    if message.encoding not in CHANNELS:
        raise ImageError(f"image encoding is {message.encoding!r}; accepted: {', '.join(CHANNELS)}")
    row = message.width * CHANNELS[message.encoding]
    if message.step < row:
        raise ImageError(f"image row step is {message.step} bytes; accepted: at least {row}")
    if len(message.data) < message.step * message.height:
        raise ImageError(
            f"image has {len(message.data)} bytes; accepted: {message.step * message.height} for "
            f"{message.height} rows of {message.step}"
        )


def check_compressed(message: Any) -> None:
    """Checks a sensor_msgs/CompressedImage without decoding it.

    Raises:
        ImageError: There are no bytes.
    """
    if len(message.data) == 0:
        raise ImageError("compressed image has 0 bytes; accepted: a JPEG or PNG")


def raw_to_rgb(message: Any) -> np.ndarray:
    """Converts a sensor_msgs/Image.

    Args:
        message: The image; rows may be padded (`step` larger than a row of pixels).

    Returns:
        (height, width, 3) uint8 RGB, contiguous.

    Raises:
        ImageError: See `check_raw`.
    """
    check_raw(message)
    channels = CHANNELS[message.encoding]
    rows = np.frombuffer(message.data, np.uint8, count=message.step * message.height)
    rows = rows.reshape(message.height, message.step)[:, : message.width * channels]
    pixels = rows.reshape(message.height, message.width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    # Slices, not lists of indices: an rgb8 image without padding is not even copied.
    order = slice(2, None, -1) if message.encoding.startswith("bgr") else slice(3)
    return np.ascontiguousarray(pixels[:, :, order])


def compressed_to_rgb(message: Any) -> np.ndarray:
    """Decodes a sensor_msgs/CompressedImage (JPEG, PNG or what else Pillow reads).

    Returns:
        (height, width, 3) uint8 RGB, contiguous.

    Raises:
        ImageError: The bytes are no image.
    """
    check_compressed(message)
    try:
        with Image.open(io.BytesIO(bytes(message.data))) as image:
            return np.array(image.convert("RGB"))
    except Exception as error:  # each of Pillow's decoders has its own on damage
        raise ImageError(
            f"compressed image of format {message.format!r} does not decode ({one_line(error)}); "
            "accepted: JPEG or PNG"
        ) from error

"""Camera messages to RGB arrays, by the messages' fields alone. Knows no ROS."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

from heisd_ros.data.text_files import one_line
from heisd_ros.errors import ImageError

MAX_PIXELS = 4096 * 4096
"""Of a picture: twice those of a 4K camera."""
MAX_SIDE = 16_384
"""Of a picture, pixels."""
FORMATS = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n"}
"""Accepted formats and how their files begin; Pillow would start Ghostscript for another."""
_MAX_SEGMENTS = 1000
"""Of a JPEG before its size is said: profiles and thumbnails take up to 300."""
_SIZED = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG segments that hold the size (ITU-T T.81, table B.1)."""

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
"""Accepted encodings of a raw image and their channels, one byte each."""


def check_raw(message: Any) -> None:
    """Checks a sensor_msgs/Image without touching its pixels.

    Raises:
        ImageError: Zero size, an encoding that is not accepted, or too few bytes for the size.
    """
    _check_size(message.width, message.height)
    if message.encoding not in CHANNELS:
        raise ImageError(
            f"image encoding is {message.encoding[:40]!r}; accepted: {', '.join(CHANNELS)}"
        )
    row = message.width * CHANNELS[message.encoding]
    if message.step < row:
        raise ImageError(f"image row step is {message.step} bytes; accepted: at least {row}")
    if len(message.data) < message.step * message.height:
        raise ImageError(
            f"image has {len(message.data)} bytes; accepted: {message.step * message.height} for "
            f"{message.height} rows of {message.step}"
        )
    if len(message.data) > 4 * MAX_PIXELS:
        raise ImageError(
            f"image has {len(message.data)} bytes; accepted: up to {4 * MAX_PIXELS} with padding"
        )


def check_compressed(message: Any) -> None:
    """Checks a sensor_msgs/CompressedImage without decoding it.

    Raises:
        ImageError: It is neither a JPEG nor a PNG, or its header says no size or one that is not
            accepted.
    """
    data = memoryview(message.data)
    if len(data) == 0:
        raise ImageError("compressed image has 0 bytes; accepted: a JPEG or PNG")
    try:
        width, height = _size(data)
    except (struct.error, IndexError):
        raise ImageError("compressed image ends within its header") from None
    _check_size(width, height)


def _check_size(width: int, height: int) -> None:
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise ImageError(
            f"image is {width} x {height} pixels; accepted: above 0, up to {MAX_SIDE} a side and "
            f"{MAX_PIXELS} in all"
        )


def _size(data: memoryview) -> tuple[int, int]:
    """Width and height that a JPEG's or PNG's header says."""
    if data[:8] == FORMATS["PNG"]:
        return struct.unpack_from(">II", data, 16)
    if data[:3] != FORMATS["JPEG"]:
        raise ImageError(f"compressed image begins with {bytes(data[:8])!r}; accepted: JPEG, PNG")
    place = 2
    for _ in range(_MAX_SEGMENTS):
        while data[place + 1] == 0xFF:  # padding
            place += 1
        marker, length = data[place + 1], *struct.unpack_from(">H", data, place + 2)
        if data[place] != 0xFF or length < 2:
            break
        if marker in _SIZED:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        place += 2 + length
    raise ImageError("compressed image is a JPEG whose header says no size")


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


def compressed_to_rgb(message: Any, least_side: int = 0) -> np.ndarray:
    """Decodes a sensor_msgs/CompressedImage: JPEG or PNG.

    Args:
        message: The image.
        least_side: A JPEG may be decoded to a size whose sides are not below this, which is many
            times as quick; 0: as it is.

    Returns:
        (height, width, 3) uint8 RGB, contiguous.

    Raises:
        ImageError: See `check_compressed`; or the bytes do not decode.
    """
    check_compressed(message)
    try:
        with Image.open(io.BytesIO(message.data), formats=tuple(FORMATS)) as image:
            _check_size(*image.size)
            if image.mode.startswith(("I", "F")):
                raise ImageError("compressed image has 16 bits or more a channel; accepted: 8")
            if least_side:
                image.draft("RGB", (least_side, least_side))
            return np.array(image.convert("RGB"))
    except ImageError:
        raise
    except Exception as error:  # a decoder raises whatever a broken file leads it to
        raise ImageError(
            f"compressed image of format {message.format[:40]!r} does not decode "
            f"({one_line(error)}); accepted: JPEG or PNG"
        ) from error

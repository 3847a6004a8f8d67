"""Camera messages to RGB arrays, by the messages' fields alone. Knows no ROS.

The node, a replay and the reader of recordings check and convert by these same functions.
"""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import numpy as np
from PIL import Image

from heisd_ros.data import bridge
from heisd_ros.data.encodings import CHANNELS, ENCODINGS, OPENCV_PROBLEM, Encoding, accepted
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

_MOSAIC = re.compile(r"(bayer_[a-z]+)\d+; *(jpeg|png) compressed *")
"""Format, as image_transport says it, of a picture whose pixels are a Bayer mosaic still."""
_DEEP = re.compile(r"mono16\b|bayer_[a-z]+16\b")
"""Beginning of such a format by which 16 bits of grey are a picture, and no distances."""

__all__ = ["CHANNELS", "check_compressed", "check_raw", "compressed_to_rgb", "raw_to_rgb"]


def check_raw(message: Any) -> None:
    """Checks a sensor_msgs/Image without touching its pixels, and waits for nothing.

    An encoding that cv_bridge reads is accepted as long as it is not known whether that works.

    Raises:
        ImageError: Zero size, an encoding that cannot be converted, sides that do not fit it, or
            too few or too many bytes for the size.
    """
    width, height = message.width, message.height
    _check_size(width, height)
    encoding = _encoding(message.encoding)
    _check_sides(message.encoding, encoding, width, height)
    row, rows, given = width * encoding.pixel, encoding.rows(height), len(message.data)
    if message.step < row:
        raise ImageError(f"image row step is {message.step} bytes; accepted: at least {row}")
    if given != message.step * rows:
        raise ImageError(
            f"image has {given} bytes; accepted: {message.step * rows} for {rows} rows of "
            f"{message.step}"
        )
    if given > 4 * MAX_PIXELS:
        raise ImageError(f"image has {given} bytes; accepted: up to {4 * MAX_PIXELS} with padding")


def _check_sides(name: str, encoding: Encoding, width: int, height: int) -> None:
    """Checks that a picture has an encoding's sides.

    Raises:
        ImageError: It has not.
    """
    odd = (width % 2 and "width" in encoding.even) or (height % 2 and "height" in encoding.even)
    if odd or min(width, height) < encoding.least_side:
        sides = f"even {encoding.even}" if odd else f"at least {encoding.least_side} a side"
        raise ImageError(f"image is {width} x {height} pixels; accepted of {name}: {sides}")


def _encoding(name: str) -> Encoding:
    """The encoding of a name, if it can be converted here.

    Raises:
        ImageError: It cannot.
    """
    encoding, why = ENCODINGS.get(name), ""
    if encoding is not None:
        if encoding.library != "numpy" and OPENCV_PROBLEM:
            why = f", which OpenCV converts, but it cannot be imported: {OPENCV_PROBLEM}"
        elif encoding.library == "cv_bridge":
            refusal = bridge.problem(wait=False)
            why = f", which cv_bridge reads, but it is not used: {refusal}" if refusal else ""
        if not why:
            return encoding
    here = accepted("numpy") if OPENCV_PROBLEM else accepted("numpy", "OpenCV")
    raise ImageError(
        f"image encoding is {name[:40]!r}{why}; accepted: {here}; with cv_bridge: "
        f"{accepted('cv_bridge')}"
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

    The first picture that needs cv_bridge waits until that was tried, some seconds at most.

    Args:
        message: The image; rows may be padded (`step` larger than a row of pixels).

    Returns:
        (height, width, 3) uint8 RGB, contiguous.

    Raises:
        ImageError: See `check_raw`; or cv_bridge cannot read it, or its values are no picture's.
    """
    check_raw(message)
    encoding = ENCODINGS[message.encoding]
    pixels = _pixels(message, encoding)
    if encoding.library == "cv_bridge":
        pixels = bridge.read(message.encoding, pixels)
    return encoding.convert(pixels)


def _pixels(message: Any, encoding: Encoding) -> np.ndarray:
    """Pixels without padding in the machine's byte order, (rows, width[, channels])."""
    height, width = encoding.rows(message.height), message.width
    rows = np.frombuffer(message.data, np.uint8).reshape(height, message.step)
    rows = rows[:, : width * encoding.pixel]
    if encoding.pixel > encoding.channels:
        dtype = np.dtype(encoding.dtype).newbyteorder(">" if message.is_bigendian else "<")
        rows = np.ascontiguousarray(rows).view(dtype).astype(encoding.dtype, copy=False)
    shape = (height, width, encoding.channels)
    return rows.reshape(shape[:2] if encoding.channels == 1 else shape)


def compressed_to_rgb(message: Any, least_side: int = 0) -> np.ndarray:
    """Decodes a sensor_msgs/CompressedImage: JPEG or PNG.

    The colours are the file's own. What image_transport compressed as a Bayer mosaic, by its
    format ("bayer_rggb8; png compressed "), is made RGB afterwards.

    Args:
        message: The image.
        least_side: A JPEG may be decoded to a size whose sides are not below this, which is many
            times as quick; 0: as it is.

    Returns:
        (height, width, 3) uint8 RGB, contiguous.

    Raises:
        ImageError: See `check_compressed`; or the bytes do not decode, or are 16 bits of what is
            not said to be a picture.
    """
    check_compressed(message)
    mosaic = _MOSAIC.fullmatch(message.format[:80])
    try:
        with Image.open(io.BytesIO(message.data), formats=tuple(FORMATS)) as image:
            _check_size(*image.size)
            deep = image.mode.startswith(("I", "F"))
            if deep and not _DEEP.match(message.format):
                raise ImageError(
                    "compressed image has 16 bits or more a channel; accepted: 8, or a format "
                    f"that begins with mono16 or bayer_*16, but it is {message.format[:40]!r}"
                )
            if deep or (mosaic and image.mode == "L"):
                name = f"{mosaic[1] if mosaic else 'mono'}{16 if deep else 8}"
                encoding = _encoding(name)
                _check_sides(name, encoding, *image.size)
                return encoding.convert(np.array(image).astype(encoding.dtype))
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

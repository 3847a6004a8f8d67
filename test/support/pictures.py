"""Picture messages of every encoding, made of RGB by formulas of their own."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import Image

from heisd_ros.data.encodings import ENCODINGS

MOSAICS = ("rggb", "bggr", "gbrg", "grbg")


def message_of(pixels, encoding, padding=0, big=False, height=None):
    """A message of numbers (rows, width[, channels]), with padded rows."""
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    message = Image(
        height=height or len(pixels),
        width=pixels.shape[1],
        encoding=encoding,
        step=rows.shape[1],
        is_bigendian=big,
    )
    message.data.frombytes(rows.tobytes())
    return message


def random_message(encoding, height, width, padding=0, big=False, seed=0):
    """A message of random numbers."""
    layout = ENCODINGS[encoding]
    shape = (layout.rows(height), width, layout.channels)
    dtype = np.dtype(layout.dtype)
    numbers = np.random.default_rng(seed)
    if dtype.kind == "f":
        pixels = numbers.random(shape).astype(dtype)
    else:
        pixels = numbers.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return message_of(pixels, encoding, padding, big, height)


def yuv_of(rgb):
    """Y, U and V of BT.601 with 219 steps of brightness, as cameras send: floating point."""
    red, green, blue = np.moveaxis(rgb.astype(float) / 255, 2, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    u, v = (blue - y) / 1.772, (red - y) / 1.402
    return 16 + 219 * y, 128 + 224 * u, 128 + 224 * v


def yuv_message(rgb, encoding, padding=0):
    """RGB whose pairs (4:2:2) or squares (4:2:0) of pixels have one colour, as YUV."""
    y, u, v = (np.rint(part).astype(np.uint8) for part in yuv_of(rgb))
    if encoding in ("nv12", "nv21"):
        pair = (u, v) if encoding == "nv12" else (v, u)
        chroma = np.stack([part[::2, ::2] for part in pair], axis=2).reshape(len(y) // 2, -1)
        return message_of(np.concatenate([y, chroma]), encoding, padding, height=len(y))
    chroma = np.where(np.arange(y.shape[1]) % 2 == 0, u, v)
    parts = (chroma, y) if encoding in ("yuv422", "uyvy") else (y, chroma)
    return message_of(np.stack(parts, axis=2), encoding, padding)


def mosaic_of(rgb, pattern):
    """What a sensor behind a Bayer filter sees; the pattern names its first four pixels."""
    mosaic = np.empty(rgb.shape[:2], rgb.dtype)
    for place, colour in enumerate(pattern):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = rgb[row::2, column::2, "rgb".index(colour)]
    return mosaic

"""Encodings of raw camera images: their memory layout and conversion to RGB, without ROS.

Names are those of sensor_msgs/image_encodings.hpp. numpy orders the channels of 8 bits; OpenCV
converts YUV, Bayer mosaics and 16 bits. OpenCV's own type names (8UC3) say nothing of colours; they
are read by cv_bridge, and then taken as OpenCV's windows show them: grey, BGR or BGRA, 16 bits from
0 to 65535, floating point from 0 to 1.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from heisd_ros.data.text_files import one_line
from heisd_ros.errors import ImageError


def _import_opencv() -> tuple[Any, str]:
    """Imports OpenCV; returns None and a reason if it cannot be used."""
    try:
        opencv = importlib.import_module("cv2")
        opencv.setNumThreads(1)  # pictures are small: more threads gain nothing and wait for cores
    except Exception as error:  # built against another numpy it fails with more than ImportError
        return None, one_line(error)
    return opencv, ""


_OPENCV, OPENCV_PROBLEM = _import_opencv()

Convert = Callable[[np.ndarray], np.ndarray]
"""Pixels (rows, width[, channels]) to (height, width, 3) uint8 RGB, contiguous."""


@dataclass(frozen=True)
class Encoding:
    """The memory layout of an image and its conversion.

    Attributes:
        channels: Numbers per pixel within its row.
        convert: Converts the pixels to RGB.
        library: The library that converts: "numpy", "OpenCV" or "cv_bridge".
        dtype: Type of a number, in the byte order of the machine.
        chroma: Whether rows of colours, half as many, follow those of brightness.
        even: Sides that must be even: none, "width", or "width and height".
        least_side: Least width and height, pixels.
    """

    channels: int
    convert: Convert
    library: str = "numpy"
    dtype: type = np.uint8
    chroma: bool = False
    even: str = ""
    least_side: int = 1

    @property
    def pixel(self) -> int:
        """Bytes per pixel within its row."""
        return self.channels * np.dtype(self.dtype).itemsize

    def rows(self, height: int) -> int:
        """Returns the number of rows of bytes of an image."""
        return height + height // 2 if self.chroma else height


def _reorder(pixels: np.ndarray, order: tuple[int, int, int]) -> np.ndarray:
    if order == (0, 1, 2) and pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)  # without padding not even copied
    ordered = np.empty((*pixels.shape[:2], 3), pixels.dtype)
    for place, channel in enumerate(order):  # a third of the time that numpy takes for all at once
        ordered[:, :, place] = pixels[:, :, channel]
    return ordered


def _grey(pixels: np.ndarray) -> np.ndarray:
    return _reorder(pixels[:, :, None], (0, 0, 0))


_RGB: Convert = partial(_reorder, order=(0, 1, 2))
_BGR: Convert = partial(_reorder, order=(2, 1, 0))


def _opencv(pixels: np.ndarray, code: str) -> np.ndarray:
    return _OPENCV.cvtColor(pixels, getattr(_OPENCV, f"COLOR_{code}"))


def _to_8(pixels: np.ndarray) -> np.ndarray:
    """Scales 16 bits to 8, 65535 becoming 255, as cv_bridge does."""
    return _OPENCV.convertScaleAbs(pixels, alpha=255 / 65535)


def _from_16(pixels: np.ndarray, convert: Convert) -> np.ndarray:
    return convert(_to_8(pixels))


def _mosaic_from_16(pixels: np.ndarray, code: str) -> np.ndarray:
    return _to_8(_opencv(pixels, code))


def _from_float(pixels: np.ndarray, convert: Convert) -> np.ndarray:
    least, most = float(pixels.min()), float(pixels.max())
    if not (least >= 0.0 and most <= 1.0):  # NaN too
        raise ImageError(
            f"image has values from {least:g} to {most:g}; accepted of floating point: 0 to 1 (a "
            "depth image is no picture)"
        )
    return convert(np.rint(pixels * 255).astype(np.uint8))


def _by_opencv(channels: int, code: str, **facts: Any) -> Encoding:
    return Encoding(channels, partial(_opencv, code=code), "OpenCV", **facts)


def _deep(channels: int, convert: Convert) -> Encoding:
    return Encoding(channels, partial(_from_16, convert=convert), "OpenCV", np.uint16)


def _deep_mosaic(code: str) -> Encoding:
    convert = partial(_mosaic_from_16, code=code)
    return Encoding(1, convert, "OpenCV", np.uint16, least_side=_LEAST_MOSAIC)


_ORDERS = {"rgb": (3, _RGB), "bgr": (3, _BGR), "rgba": (4, _RGB), "bgra": (4, _BGR)}
# OpenCV names a mosaic by the second and third pixel of its second row, ROS by its first four.
_MOSAICS = {"rggb": "BayerBG2RGB", "bggr": "BayerRG2RGB", "gbrg": "BayerGR2RGB"}
_MOSAICS["grbg"] = "BayerGB2RGB"
_LEAST_MOSAIC = 3  # of fewer rows or columns OpenCV makes black

_OWN = {f"{name}8": Encoding(*order) for name, order in _ORDERS.items()}
_OWN["mono8"] = Encoding(1, _grey)
_UYVY = _by_opencv(2, "YUV2RGB_UYVY", even="width")
_YUYV = _by_opencv(2, "YUV2RGB_YUY2", even="width")
_COLOURS = {
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _by_opencv(1, "YUV2RGB_NV12", chroma=True, even="width and height"),
    "nv21": _by_opencv(1, "YUV2RGB_NV21", chroma=True, even="width and height"),
}
_BAYER = {
    f"bayer_{name}8": _by_opencv(1, code, least_side=_LEAST_MOSAIC)
    for name, code in _MOSAICS.items()
}
_DEEP = {
    "mono16": _deep(1, _grey),
    **{f"{name}16": _deep(*order) for name, order in _ORDERS.items()},
    **{f"bayer_{name}16": _deep_mosaic(code) for name, code in _MOSAICS.items()},
}


def _typed(depth: str, dtype: type, adapt: Callable[..., np.ndarray] | None) -> dict[str, Encoding]:
    """Makes the encodings that cv_bridge reads as numbers of one type."""
    shown = {1: _grey, 3: _BGR, 4: _BGR}
    if depth == "16U":
        del shown[1]  # a depth image, mm (REP 118)
    return {
        f"{depth}C{channels}": Encoding(
            channels, partial(adapt, convert=convert) if adapt else convert, "cv_bridge", dtype
        )
        for channels, convert in shown.items()
    }


TYPED = {
    **_typed("8U", np.uint8, None),
    **_typed("16U", np.uint16, _from_16),
    **_typed("32F", np.float32, _from_float),
}
"""Encodings that are read by cv_bridge."""

ENCODINGS = {**_OWN, **_COLOURS, **_BAYER, **_DEEP, **TYPED}
"""Every encoding that may be converted."""

CHANNELS = {name: encoding.channels for name, encoding in _OWN.items()}
"""Encodings that need neither OpenCV nor cv_bridge, and their channels, one byte each."""


def accepted(*libraries: str) -> str:
    """Lists the encodings that these libraries convert, in words."""
    return ", ".join(name for name, one in ENCODINGS.items() if one.library in libraries)

"""cv_bridge of a ROS installation, tried before it is trusted.

It reads the encodings that say no more than a type of numbers. Built against another NumPy than the
one installed, it ends the process that gives it a picture; so a process of its own gives it the
first ones, and what it makes of them is compared with what they are. Run as a program this file is
that process.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np

from heisd_ros.data.encodings import ENCODINGS, TYPED
from heisd_ros.data.text_files import one_line
from heisd_ros.errors import ImageError

LIMIT_SEC = 10
"""For which the trial may run."""
_AGREED = "cv_bridge agrees"
_SIDES = 5, 3
_lock = threading.Lock()


def installed() -> bool:
    """Whether there is a cv_bridge; it is not imported."""
    try:
        return importlib.util.find_spec("cv_bridge") is not None
    except ValueError:  # barred from import, or made up
        return False


def problem(wait: bool = True) -> str | None:
    """Why cv_bridge is not used; empty where it may be, None where that is not known yet.

    The trial is made once in a process; it begins with the first call.

    Args:
        wait: Whether to wait for its end, at most `LIMIT_SEC`.
    """
    with _lock:
        trial = _trial()
    return trial.result() if wait or trial.done() else None


def read(encoding: str, pixels: np.ndarray) -> np.ndarray:
    """Lets cv_bridge read a picture.

    Args:
        encoding: One of `TYPED`.
        pixels: Its bytes as they lie without padding, (height, width[, channels]).

    Returns:
        The picture as cv_bridge reads it, of the same shape and type.

    Raises:
        ImageError: cv_bridge is not used, or makes something else of the picture.
    """
    refusal = problem()
    if refusal:
        raise ImageError(f"image encoding is {encoding!r}, and cv_bridge is not used: {refusal}")
    try:
        picture = _read(_bridge(), encoding, pixels)
    except Exception as error:  # whatever it raises, the arm is held for it
        raise ImageError(
            f"cv_bridge does not read an image of encoding {encoding!r}: {one_line(error)}"
        ) from error
    if getattr(picture, "shape", None) != pixels.shape or picture.dtype != pixels.dtype:
        raise ImageError(f"cv_bridge makes no {encoding} of an image of that encoding")
    return picture


@functools.cache
def _trial() -> Future[str]:
    future: Future[str] = Future()
    if installed():
        threading.Thread(target=lambda: future.set_result(_try()), daemon=True).start()
    else:
        future.set_result("it is not installed")
    return future


@functools.cache
def _bridge() -> Any:
    return importlib.import_module("cv_bridge").CvBridge()


def _read(bridge: Any, encoding: str, pixels: np.ndarray) -> Any:
    return bridge.imgmsg_to_cv2(_message(encoding, pixels), desired_encoding="passthrough")


def _message(encoding: str, pixels: np.ndarray) -> Any:
    """A sensor_msgs/Image of the pixels, by its fields: no row is padded, no byte is swapped."""
    (height, width), data = pixels.shape[:2], pixels.tobytes()
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=len(data) // height,
        data=data,
    )


def _try() -> str:
    """Tries cv_bridge in a process of its own; what `problem` says of it."""
    # The same modules as here are imported there, and none from where Python is started.
    modules = os.pathsep.join(map(os.path.abspath, sys.path))
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            cwd=os.sep,
            env={**os.environ, "PYTHONPATH": modules},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_SEC,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"a test picture took it more than {LIMIT_SEC} s"
    except OSError as error:
        return f"it cannot be tried: {one_line(error)}"
    if done.returncode < 0:
        name = signal.strsignal(-done.returncode)
        return f"a test picture ended its process ({name}): is it built for another NumPy?"
    said = (done.stdout.splitlines() or [""])[-1]
    if done.returncode == 0 and said == _AGREED:
        return ""
    return said or f"a test picture ended its process with exit code {done.returncode}"


def _compare() -> str:
    """Gives cv_bridge test pictures; says where it does not agree with what they are."""
    numbers = np.random.default_rng(0)
    height, width = _SIDES
    colours = numbers.integers(0, 256, (height, width, 3), np.uint8)
    bridge = _bridge()
    rgb = bridge.imgmsg_to_cv2(_message("bgr8", colours), desired_encoding="rgb8")
    if not np.array_equal(rgb, ENCODINGS["bgr8"].convert(colours)):
        return "a test picture of encoding bgr8 became another picture"
    for name, encoding in TYPED.items():
        shape = (height, width, encoding.channels)[: 2 if encoding.channels == 1 else 3]
        pixels: np.ndarray = numbers.integers(0, 256, shape).astype(encoding.dtype)
        if not np.array_equal(_read(bridge, name, pixels), pixels):
            return f"a test picture of encoding {name} became another picture"
    return _AGREED


def main() -> None:
    """Tries cv_bridge and prints the outcome as the last line."""
    signal.alarm(LIMIT_SEC)  # also where nobody is left who would wait
    try:
        print(_compare(), flush=True)
    except Exception as error:
        print(f"a test picture raised {type(error).__name__}: {one_line(error)}", flush=True)


if __name__ == "__main__":
    main()

"""What a camera's encoding costs: medians in milliseconds of one picture to RGB, padded and not.

    python bench/picture_cost.py                 # 640 x 480
    python bench/picture_cost.py --size 1920 1080

Encodings that cv_bridge reads are measured where it is used. Other work on the machine disturbs all
of them; the quickest decile stands beside the median to show by how much.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from heisd_ros.data import bridge
from heisd_ros.data.encodings import ENCODINGS
from heisd_ros.data.images import compressed_to_rgb, raw_to_rgb

REPEATS = 200


def message(name: str, width: int, height: int, padding: int) -> Any:
    encoding = ENCODINGS[name]
    rows, step = encoding.rows(height), width * encoding.pixel + padding
    data = np.random.default_rng(0).integers(0, 256, rows * step, np.uint8)
    if encoding.dtype is np.float32:  # what is no number from 0 to 1 is refused
        data[:] = 0
    return SimpleNamespace(
        width=width,
        height=height,
        step=step,
        encoding=name,
        is_bigendian=0,
        data=data.tobytes(),
    )


def compressed(kind: str, width: int, height: int) -> Any:
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    noise = np.random.default_rng(0).integers(0, 24, (height, width, 3))
    pixels = np.stack([across % 200, down % 200, (across + down) % 200], axis=2) + noise
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, kind)
    return SimpleNamespace(format=kind.lower(), data=file.getvalue())


def measure(convert: Callable[[], Any]) -> str:
    took = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        convert()
        took.append(time.perf_counter() - begin)
    tenth, median = np.quantile(took, [0.1, 0.5]) * 1e3
    return f"{median:8.3f} ({tenth:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"))
    width, height = parser.parse_args().size
    for name, encoding in ENCODINGS.items():
        if encoding.library == "cv_bridge" and bridge.problem():
            continue
        costs = [
            measure(lambda: raw_to_rgb(message_))
            for message_ in (message(name, width, height, padding) for padding in (0, 64))
        ]
        print(f"{name:14} {encoding.library:10} {'  padded '.join(costs)}")
    for kind in ("JPEG", "PNG"):
        picture = compressed(kind, width, height)
        print(f"{kind:14} {'Pillow':10} {measure(lambda: compressed_to_rgb(picture))}")


if __name__ == "__main__":
    main()

"""Converts RGB arrays to image messages."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header


def image_message(pixels: np.ndarray, stamp: Time, frame_id: str) -> Image:
    """Builds an rgb8 image message.

    Args:
        pixels: (height, width, 3) uint8 RGB.
        stamp: Time of the picture.
        frame_id: Frame of the camera.
    """
    height, width, _ = pixels.shape
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header = Header(stamp=stamp, frame_id=frame_id)
    message.data.frombytes(np.ascontiguousarray(pixels).tobytes())
    return message

"""Camera messages to RGB arrays: checks at reception, conversion before inference. Knows no ROS.

cv_bridge of a ROS installation converts raw images where it imports; elsewhere, and compressed
images always, the package's own `data.images` does.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from heisd_ros.data import images
from heisd_ros.data.images import CHANNELS, check_compressed, check_raw, compressed_to_rgb

__all__ = ["CHANNELS", "check_compressed", "check_raw", "compressed_to_rgb", "raw_to_rgb"]


def _cv_bridge() -> Any:
    """A CvBridge, or None where there is none that works."""
    try:
        return importlib.import_module("cv_bridge").CvBridge()
    except Exception:  # built against another numpy it fails with more than ImportError
        return None


_BRIDGE = _cv_bridge()


def raw_to_rgb(message: Any) -> np.ndarray:
    """Converts a sensor_msgs/Image; see `data.images.raw_to_rgb`.

    Raises:
        ImageError: See `check_raw`.
    """
    if _BRIDGE is None:
        return images.raw_to_rgb(message)
    check_raw(message)
    return np.ascontiguousarray(_BRIDGE.imgmsg_to_cv2(message, desired_encoding="rgb8"))

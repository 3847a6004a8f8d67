"""Packages that stand in for cv_bridge: one that works, and those that must not harm a node."""

from __future__ import annotations

import sys

from heisd_ros.data import bridge

WORKS = '''
import re
import numpy as np

class CvBridge:
    """As that of vision_opencv, for pictures of 8 bits and for types."""

    def imgmsg_to_cv2(self, message, desired_encoding="passthrough"):
        named = re.fullmatch(r"(8U|16U|32F)C([134])", message.encoding)
        depth, channels = named.groups() if named else ("8U", 3)
        dtype = np.dtype({"8U": np.uint8, "16U": np.uint16, "32F": np.float32}[depth])
        across = message.step // (dtype.itemsize * int(channels))  # shears padded rows, as it does
        shape = (message.height, across, int(channels))[: 2 if channels == "1" else 3]
        picture = np.ndarray(shape, dtype, message.data)[:, : message.width]
        if desired_encoding == "passthrough":
            return picture
        if named:
            raise TypeError(f"[{message.encoding}] is not a color format")
        return picture if message.encoding == desired_encoding else picture[:, :, ::-1]
'''
_AT_A_PICTURE = """
class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding="passthrough"):
        {}
"""
KINDS = {
    "works": WORKS,
    "shears": WORKS.replace("return picture\n", "return np.roll(picture, 1, axis=1)\n", 1),
    "swaps": WORKS.replace("[:, :, ::-1]", ""),
    "raises": _AT_A_PICTURE.format("raise RuntimeError('no such picture')"),
    "dies": _AT_A_PICTURE.format("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
    "leaves": _AT_A_PICTURE.format("import os; os._exit(0)"),
    "hangs": _AT_A_PICTURE.format("import time; time.sleep(1e6)"),
    "dies at import": "import os; os.abort()",
    "fails at import": "raise ImportError('numpy.core.multiarray failed to import')",
}
"""What each does, and its source."""


def write(folder, kind):
    """Makes a package cv_bridge of a kind below a folder, and returns the folder."""
    (folder / "cv_bridge").mkdir()
    (folder / "cv_bridge" / "__init__.py").write_text(KINDS[kind])
    return folder


def install(monkeypatch, folder, kind):
    """Makes a cv_bridge of a kind the one that this process finds, untried."""
    monkeypatch.syspath_prepend(str(write(folder, kind)))
    forget()


def forget():
    """Forgets a cv_bridge and what was found out about it."""
    bridge._trial.cache_clear()
    bridge._bridge.cache_clear()
    sys.modules.pop("cv_bridge", None)

"""One scene for the tests of this folder: making it costs seconds, a reset does not."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def scene():
    pytest.importorskip("libero")
    os.environ.setdefault("LP_NUM_THREADS", "1")
    from heisd_ros.sim.scene import LiberoScene

    scene = LiberoScene("libero_spatial", 2, image_size=64)
    yield scene
    scene.close()

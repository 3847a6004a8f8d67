from __future__ import annotations

import time

import pytest
import torch

from heisd_ros.decoding.stopwatch import Stopwatch


def test_laps_add_up_to_the_total():
    watch = Stopwatch(torch.device("cpu"))
    time.sleep(0.002)
    watch.lap("first")
    watch.lap("second")
    time.sleep(0.002)
    watch.lap("first")
    timings = watch.timings_ms()
    assert list(timings) == ["first", "second", "total"]
    assert timings["first"] >= 4.0
    assert timings["first"] + timings["second"] == pytest.approx(timings["total"])

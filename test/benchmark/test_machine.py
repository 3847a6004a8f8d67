"""What was measured says on what."""

from __future__ import annotations

from heisd_ros.benchmark.machine import processor


def test_the_machine_is_named():
    assert "cores" in processor()

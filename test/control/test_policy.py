"""The model takes the threads that it was given, and else those that its size allows."""

from __future__ import annotations

import os

import pytest
import torch

from heisd_ros.control.policy import SMALL_BYTES, load_model, threads_for
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_a_small_model_takes_one_and_a_large_one_leaves_a_core(checkpoint, monkeypatch, cores):
    assert threads_for(SMALL_BYTES - 1, cores) == 1
    assert threads_for(SMALL_BYTES, cores) == max(1, cores - 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    before = torch.get_num_threads()
    try:
        for asked, given in ((0, 1), (3, 3)):
            wanted = {"model.path": str(checkpoint), "model.threads": asked}
            load_model(from_values(VlaNodeParameters, wanted))
            assert torch.get_num_threads() == given
    finally:
        torch.set_num_threads(before)


def test_a_server_is_no_folder():
    with pytest.raises(ValueError, match=r"'model\.path' is 'ws://a:1'; accepted here: a folder"):
        load_model(from_values(VlaNodeParameters, {"model.path": "ws://a:1"}))

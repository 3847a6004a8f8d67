"""Ceilings are a machine's, and the work under them is the model's."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.small_models import small_vla

from heisd_ros.benchmark.roofline import Roofline, Workloads
from heisd_ros.families.shapes import Work
from heisd_ros.vla.drafter import Drafter


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**15)), max_size=5))
def test_a_roofline_is_the_slower_of_memory_and_arithmetic(passes):
    roofline = Roofline(bandwidth=2e12, rate=5e14)
    works = [Work(*one) for one in passes]
    whole = roofline.ms(*works)
    assert whole == pytest.approx(sum(roofline.ms(work) for work in works))
    for work in works:
        assert whole >= 1e3 * work.bytes / 2e12 or math.isclose(whole, 1e3 * work.bytes / 2e12)
        assert whole >= 1e3 * work.operations / 5e14 * (1 - 1e-12)
    assert roofline.best(Roofline(1e12, 1e15)) == Roofline(2e12, 1e15)


def test_both_ceilings_are_measured():
    clock = iter(range(10**6))
    roofline = Roofline.measure(torch.device("cpu"), torch.float32, 0, lambda: next(clock))
    # A second a run by this clock: 4 MiB are read and written, 1024 x 1024 x 1024 multiplied.
    assert (roofline.bandwidth, roofline.rate) == (2 * 2**22, 2 * 2**30)


def test_a_pass_reads_every_weight_and_multiplies_each_column_by_it():
    vla = small_vla()
    work, model = Workloads(vla, Drafter.of(vla), columns=20), vla.model
    layers = sum(p.numel() for p in model.language_model.model.layers.parameters())
    head = model.language_model.lm_head.weight.numel()
    one, seven, prompt = work.extend(), work.extend(6), work.prefill()
    assert 4 * (layers + head) < one.bytes < 1.2 * 4 * (layers + head)
    # Norms are no products, and attention adds a little.
    assert one.operations == pytest.approx(2 * (layers + head), rel=0.1)
    assert seven.operations == pytest.approx(7 * one.operations, rel=0.1)
    assert prompt.operations == pytest.approx(2 * (20 * layers + head), rel=0.2)

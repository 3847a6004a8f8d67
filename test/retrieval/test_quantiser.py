"""One byte per number: errors of at most half a step, and cosines of the coded keys."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.database import unit

from heisd_ros.retrieval.quantiser import Quantiser


def keys_of(seed, number=9, size=12):
    return unit(np.random.default_rng(seed).normal(size=(number, size)))


def quantiser_for(keys):
    return Quantiser.of(keys.min(axis=0), keys.max(axis=0))


@given(st.integers(0, 999))
def test_a_number_is_at_most_half_a_step_off(seed):
    keys = keys_of(seed)
    quantiser = quantiser_for(keys)
    error = np.abs(quantiser.decode(quantiser.encode(keys)) - keys)
    assert (error <= 0.5 * quantiser.step + 1e-6).all()


@given(st.integers(0, 999))
def test_cosines_are_those_of_what_is_coded(seed):
    keys, query = keys_of(seed), keys_of(seed + 1000)[0]
    quantiser = quantiser_for(keys)
    codes = quantiser.encode(keys)
    cosines = quantiser.cosines(codes, quantiser.lengths(codes), query)
    np.testing.assert_allclose(cosines, unit(quantiser.decode(codes)) @ query, atol=1e-5)
    np.testing.assert_allclose(cosines, keys @ query, atol=0.02)
    assert (np.abs(cosines) <= 1.0).all()


def test_numbers_outside_the_range_get_its_end():
    quantiser = Quantiser.of(np.zeros(2, np.float32), np.ones(2, np.float32))
    codes = quantiser.encode(np.array([[-3.0, 7.0]], np.float32))
    assert codes.tolist() == [[0, 255]]


def test_a_number_that_never_changes_is_kept():
    keys = np.array([[0.6, 0.8], [0.6, -0.8]], np.float32)
    quantiser = quantiser_for(keys)
    np.testing.assert_allclose(quantiser.decode(quantiser.encode(keys)), keys, atol=1e-6)

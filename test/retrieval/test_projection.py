"""Projection: distances never grow, and are exact with all components."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.database import SIZE, entries, projection


@given(st.integers(0, 999), st.integers(1, SIZE))
def test_distances_never_grow_and_all_components_keep_them(seed, kept):
    keys = entries(seed=seed).keys
    full = projection(kept=SIZE, seed=seed)
    some = full.truncated(kept)
    assert (some.size, some.kept) == (SIZE, kept)
    distances, found = (
        np.linalg.norm(rows[:, None] - rows, axis=-1) for rows in (keys, some(keys))
    )
    assert (found <= distances + 1e-5).all()
    if kept == SIZE:
        np.testing.assert_allclose(found, distances, atol=1e-5)


def test_one_key_or_many():
    keys, project = entries().keys, projection()
    np.testing.assert_allclose(project(keys)[3], project(keys[3]), atol=1e-6)

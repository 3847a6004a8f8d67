"""Principal components: orthonormal, of falling variance, and as many as recall requires."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.database import entries, unit

from heisd_ros.retrieval.key_space import KeySpace
from heisd_ros.retrieval.writer import quantiser_of
from heisd_ros.training import compression
from heisd_ros.training.compression import choose_projection, fit_projection, measure


@given(st.integers(0, 999), st.integers(1, 30), st.integers(1, 20))
def test_components_are_orthonormal_and_hold_all_variance(seed, number, size):
    keys = np.random.default_rng(seed).normal(size=(number, size)).astype(np.float32)
    projection = fit_projection(keys)
    assert 1 <= projection.kept <= max(1, min(number - 1, size))
    components = projection.components
    np.testing.assert_allclose(components @ components.T, np.eye(len(components)), atol=1e-4)
    coordinates = projection(keys)
    np.testing.assert_allclose(coordinates @ components + projection.mean, keys, atol=1e-3)
    variances = coordinates.var(axis=0)
    assert (np.diff(variances) <= 1e-4 * variances.max() + 1e-9).all()


def test_keys_that_are_all_the_same_have_a_projection():
    keys = np.tile(unit(np.ones(6)), (5, 1))
    np.testing.assert_allclose(fit_projection(keys)(keys), 0.0, atol=1e-6)


def clusters(seed, size=160, episodes=20):
    """Keys in full dimension: neighbours differ in every number alike, and no few tell all."""
    rng = np.random.default_rng(seed)
    return entries(
        episodes=episodes, steps=10, size=size, keys=unit(rng.normal(size=(10 * episodes, size)))
    )


def test_as_many_components_as_recall_asks_for(monkeypatch):
    monkeypatch.setattr(compression, "_SIZES", (1, 2, 4, 8, 16, 32, 64, 128))
    monkeypatch.setattr(compression, "candidates_of", lambda k: 4)
    shards = [clusters(0), clusters(1)]
    loose, some = choose_projection(shards, recall=0.1)
    strict, most = choose_projection(shards, recall=0.9)
    assert 0.1 <= some.recall < 0.9 <= most.recall
    assert loose.kept < strict.kept < 160
    # Every tenth of 20 episodes of each task asks.
    assert some.queries == most.queries == 2 * 2 * 10
    # What is reported holds for what is returned.
    space = KeySpace.as_stored(strict, quantiser_of(shards))
    again = measure(space, [(s.keys[_asking(s)], s.keys[~_asking(s)]) for s in shards])
    assert again == most


def _asking(shard):
    return np.isin(shard.episodes, [0, 10])


def test_where_no_number_of_components_is_enough_all_are_kept(monkeypatch):
    monkeypatch.setattr(compression, "candidates_of", lambda k: 1)
    shards = [clusters(0)]
    projection, fidelity = choose_projection(shards, recall=1.1)
    assert projection.kept == 160 and fidelity.recall <= 1.0


def test_the_projection_never_saw_who_asks(monkeypatch):
    shard = clusters(0)
    other = shard.keys.copy()
    other[_asking(shard)] = unit(np.ones(160))
    projections = [
        choose_projection([entries(episodes=20, steps=10, size=160, keys=keys)])[0]
        for keys in (shard.keys, other)
    ]
    np.testing.assert_array_equal(projections[0].mean, projections[1].mean)
    np.testing.assert_array_equal(*(p.components[:64] for p in projections))


def test_one_episode_a_task_has_nobody_to_ask():
    projection, fidelity = choose_projection([entries(episodes=1), entries(episodes=1, seed=1)])
    assert fidelity.queries == 0 and fidelity.recall is None
    assert projection.kept == 9


@pytest.mark.parametrize("queries", [7, 1000])
def test_questions_are_thinned(monkeypatch, queries):
    monkeypatch.setattr(compression, "_QUERIES", queries)
    _, fidelity = choose_projection([clusters(0), clusters(1)])
    assert abs(fidelity.queries - min(queries, 40)) <= 1

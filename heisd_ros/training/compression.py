"""Principal components of retrieval keys, as many as the recall requires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from heisd_ros.retrieval.entries import Entries
from heisd_ros.retrieval.index import Index
from heisd_ros.retrieval.key_space import KeySpace
from heisd_ros.retrieval.manifest import Fidelity
from heisd_ros.retrieval.projection import Projection
from heisd_ros.retrieval.quantiser import Quantiser
from heisd_ros.retrieval.shard import candidates_of
from heisd_ros.retrieval.writer import quantiser_of

RECALL = 0.99
"""Least share of frames whose best entry has to stay the best."""
_HELD_OUT = 10
"""Every tenth episode gives the queries; the projection is fitted to the others."""
_FIT_FRAMES, _QUERIES = 2048, 2000
_SIZES = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536)
"""Fewer would hardly make a search cheaper."""
_UNMEASURED = 256
_TIE = 1e-6
"""Two entries whose cosines with a frame differ by less are equally good."""


def choose_projection(
    shards: Sequence[Entries], recall: float = RECALL
) -> tuple[Projection, Fidelity]:
    """Finds the shortest projection whose searches keep the recall of full keys.

    If no task has a second episode there are no queries, and a generous size is chosen.

    Args:
        shards: Entries of each task.
        recall: Least share of held-out frames whose best entry has to be the best by full keys.

    Returns:
        the projection, and what was measured of it: everything as it is stored, every held-out
        frame searching the other episodes of its task.
    """
    asking = [_held_out(entries.episodes) for entries in shards]
    fitted = [entries.keys[~held] for entries, held in zip(shards, asking, strict=True)]
    full = fit_projection(_thinned(np.concatenate(fitted), _FIT_FRAMES))
    share = min(1.0, _QUERIES / max(1, sum(int(held.sum()) for held in asking)))
    questions = [
        _thinned(entries.keys[held], round(share * held.sum()))
        for entries, held in zip(shards, asking, strict=True)
    ]
    pairs = [pair for pair in zip(questions, fitted, strict=True) if len(pair[0])]
    if not pairs:
        return full.truncated(_UNMEASURED), Fidelity()
    return shortest(full, quantiser_of(shards), pairs, recall)


def shortest(
    full: Projection,
    quantiser: Quantiser,
    pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    recall: float = RECALL,
) -> tuple[Projection, Fidelity]:
    """Truncates a projection to the fewest components that keep the recall of full keys."""
    for size in (*(size for size in _SIZES if size < full.kept), full.kept):
        projection = full.truncated(size)
        fidelity = measure(KeySpace.as_stored(projection, quantiser), pairs)
        if fidelity.recall is not None and fidelity.recall >= recall:
            break
    return projection, fidelity


def fit_projection(keys: NDArray[np.float32]) -> Projection:
    """Computes all principal components [C, D] of keys [N, D]; C < N, C <= D.

    They are in order of falling variance. Components whose variance is only rounding are left out,
    but at least one is kept.
    """
    mean = keys.mean(axis=0, dtype=np.float64)
    centred = keys - mean
    # Of two matrices with the same components, the smaller.
    few = len(keys) <= keys.shape[1]
    values, vectors = scipy.linalg.eigh(centred @ centred.T if few else centred.T @ centred)
    order = np.argsort(values)[::-1]
    telling = order[values[order] > 1e-9 * max(values.max(), 1e-12)]
    if len(telling) == 0:
        components = np.eye(1, keys.shape[1])
    elif few:
        components = (centred.T @ vectors[:, telling] / np.sqrt(values[telling])).T
    else:
        components = vectors[:, telling].T
    return Projection(mean.astype(np.float32), np.ascontiguousarray(components, dtype=np.float32))


def measure(
    space: KeySpace, pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> Fidelity:
    """Compares searches by stored keys with searches by full keys.

    Args:
        space: How keys are stored.
        pairs: Queries [Q, D] and entries [N, D] of each task.
    """
    hits, errors = [], []
    for queries, entries in pairs:
        exact = queries @ entries.T
        codes = space.quantiser.encode(entries)
        lengths = space.quantiser.lengths(codes)
        index = Index.exact(space.projection(entries).astype(np.float16))
        candidates = min(len(entries), candidates_of(1))
        for query, cosines in zip(queries, exact, strict=True):
            rows = index.search(space.projection(query), candidates)
            similarity = space.quantiser.cosines(codes[rows], lengths[rows], query)
            best = int(similarity.argmax())
            hits.append(cosines[rows[best]] >= cosines.max() - _TIE)
            errors.append(abs(similarity[best] - cosines[rows[best]]))
    return Fidelity(
        queries=len(hits),
        recall=float(np.mean(hits)),
        similarity_error=float(np.percentile(errors, 99)),
    )


def _held_out(episodes: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Returns a mask [N] of the entries of every tenth episode, if the task has several."""
    numbers = np.unique(episodes)
    return np.isin(episodes, numbers[::_HELD_OUT] if len(numbers) > 1 else [])


def _thinned(rows: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Returns at most `most` of the rows, evenly spaced."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows), most, endpoint=False).astype(int)]

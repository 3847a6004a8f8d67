"""Entries are complete and finite; a search returns copies of the documented types."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.database import entries

from heisd_ros.errors import DatabaseError
from heisd_ros.retrieval.entries import COLUMNS, PADDING, AnswerSize, Entries, Matches


def test_no_entries_are_refused():
    with pytest.raises(DatabaseError, match="without entries"):
        entries(episodes=0)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_another_shape_is_named(name):
    good = getattr(entries(), name)
    with pytest.raises(DatabaseError, match=f"{name} has shape"):
        dataclasses.replace(entries(), **{name: good[:-1]})
    with pytest.raises(DatabaseError, match=f"{name} has shape"):
        dataclasses.replace(entries(), **{name: good[..., None]})


@pytest.mark.parametrize("name", ["keys", "actions"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named_with_its_entry(name, value):
    column = getattr(entries(), name).copy()
    column[4] = value
    with pytest.raises(DatabaseError, match=rf"{name} of entries \[4\] are not finite"):
        entries(**{name: column})


def test_joined_parts_follow_each_other():
    first, second = entries(seed=1), entries(seed=2, episodes=1)
    joined = Entries.join([first, second])
    assert len(joined) == len(first) + len(second)
    np.testing.assert_array_equal(joined.tokens[: len(first)], first.tokens)
    np.testing.assert_array_equal(joined.keys[len(first) :], second.keys)


def test_shorter_answers_are_padded():
    short, long = entries(seed=1, tokens=np.full((15, 3), 5)), entries(seed=2)
    found = Entries.join([short, long])
    assert found.answer == AnswerSize(tokens=7, numbers=7)
    np.testing.assert_array_equal(found.tokens[0], [5, 5, 5, *[PADDING] * 4])
    np.testing.assert_array_equal(found.tokens[15:], long.tokens)


def test_gathered_rows_are_copies_in_the_types_of_memory():
    made = entries()
    columns = {name: getattr(made, name).astype(c.disk) for name, c in COLUMNS.items()}
    matches = Matches.gather(columns, np.array([7, 2]), np.array([0.9, 0.8], np.float32))
    assert len(matches) == 2
    for name, column in COLUMNS.items():
        gathered = getattr(matches, name)
        assert gathered.dtype == np.dtype(column.memory) and gathered.shape == (
            2,
            *column.row(made.answer),
        )
        np.testing.assert_allclose(gathered, getattr(made, name)[[7, 2]], rtol=1e-3, atol=1e-3)
        assert not np.shares_memory(gathered, columns[name])

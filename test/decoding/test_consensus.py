import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.decoding.consensus import consensus_of, votes_of

IDS = st.integers(100, 355)
ROW = st.lists(IDS, min_size=7, max_size=7)


@given(st.lists(ROW, min_size=1, max_size=6), ROW, st.integers(0, 5))
def test_the_consensus_lies_among_the_votes_and_keeps_the_nearest_gripper(rows, last, momentum):
    votes = votes_of(np.array(rows), last, momentum)
    tokens = consensus_of(votes)
    assert len(votes) == len(rows) + momentum
    assert tokens[-1] == rows[0][-1]
    assert (votes.min(axis=0)[:6] <= tokens[:6]).all() and (
        tokens[:6] <= votes.max(axis=0)[:6]
    ).all()


def test_the_last_command_has_as_many_votes_as_it_is_given():
    tokens = consensus_of(votes_of(np.full((1, 7), 200), [240] * 7, 3))
    assert tokens == (230,) * 6 + (200,)


def test_at_an_episodes_start_there_is_no_last_command():
    entries = np.arange(14).reshape(2, 7)
    assert votes_of(entries, None, 3) is entries

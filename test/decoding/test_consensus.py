import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.decoding.consensus import consensus_of

ROW = st.lists(st.integers(100, 355), min_size=7, max_size=7)


@given(st.lists(ROW, min_size=1, max_size=6))
def test_the_consensus_is_the_mean_entry_with_the_nearest_ones_gripper(rows):
    tokens = consensus_of(np.array(rows))
    assert tokens[-1] == rows[0][-1]
    np.testing.assert_array_equal(tokens[:6], np.rint(np.mean(rows, axis=0))[:6])

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from heisd_ros.families.openvla.action_tokens import BIN_CENTRES, ActionStatistics, ActionTokenizer

TOKENIZER = ActionTokenizer(32000)
STATISTICS = ActionStatistics(
    q01=(-2.0, -1.0, 0.0, -3.0, 2.0, -0.1, 0.0),
    q99=(2.0, 0.5, 4.0, 3.0, 2.5, 0.1, 1.0),
    mask=(True,) * 6 + (False,),
)
UNIT = st.floats(-1.0, 1.0)


@given(arrays(np.float64, (3, 7), elements=st.floats(-5.0, 5.0)))
def test_decoding_an_encoded_action_is_at_most_half_a_bin_away(action):
    tokens = TOKENIZER.encode(action)
    assert tokens.min() >= 31744 and tokens.max() <= 31999
    error = np.abs(TOKENIZER.decode(tokens) - np.clip(action, -1, 1))
    assert error.max() <= 1 / 255 + 1e-12


def test_every_bin_survives_encoding():
    """The centre of bin b is written as token vocab - 1 - b."""
    tokens = TOKENIZER.encode(BIN_CENTRES)
    assert tokens.tolist() == [31999 - b for b in range(255)]
    assert TOKENIZER.bins(tokens).tolist() == list(range(255))


def test_ids_that_are_no_actions_clip_to_the_nearer_end():
    assert TOKENIZER.bins([0, 31743, 31744, 31745, 31999, 32063]).tolist() == [
        254, 254, 254, 254, 0, 0,
    ]  # fmt: skip


def test_columns_follow_the_ids():
    columns = TOKENIZER.bins(range(TOKENIZER.vocab_size - 256, TOKENIZER.vocab_size))
    assert columns.shape == (256,)
    assert columns[0] == columns[1] == 254 and columns[255] == 0


@given(arrays(np.float64, 7, elements=UNIT))
def test_normalising_inverts_unnormalising(normalised):
    action = STATISTICS.unnormalise(normalised)
    np.testing.assert_allclose(STATISTICS.normalise(action), normalised, atol=1e-12)
    assert action[6] == normalised[6]  # not masked: passes through


def test_the_range_maps_to_plus_minus_one():
    np.testing.assert_allclose(STATISTICS.unnormalise(-np.ones(7))[:6], STATISTICS.q01[:6])
    np.testing.assert_allclose(STATISTICS.unnormalise(np.ones(7))[:6], STATISTICS.q99[:6])


def test_a_dimension_that_never_moved_normalises_to_zero_and_back_to_itself():
    still = ActionStatistics(q01=(0.3,) * 7, q99=(0.3,) * 7)
    np.testing.assert_array_equal(still.normalise([0.3] * 7), np.zeros(7))
    np.testing.assert_array_equal(still.unnormalise(np.zeros(7)), [0.3] * 7)


def test_dictionary_round_trip_and_missing_mask():
    assert ActionStatistics.from_dict(STATISTICS.to_dict()) == STATISTICS
    bare = {"q01": [0.0] * 7, "q99": [1.0] * 7}
    assert ActionStatistics.from_dict(bare).mask == (True,) * 7


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({"q01": [0.0] * 7}, "lack 'q99'"),
        ({"q01": [0.0] * 6, "q99": [1.0] * 7}, "q01 has 6 numbers; 7"),
        ({"q01": [0.0] * 7, "q99": [float("nan")] * 7}, "accepted: a finite number"),
        ({"q01": [1.0] * 7, "q99": [0.0] * 7}, "exceeds"),
        ({"q01": [0.0] * 7, "q99": [1.0] * 7, "mask": [True]}, "mask has 1 numbers"),
    ],
)
def test_malformed_statistics(statistics, message):
    with pytest.raises(ValueError, match=message):
        ActionStatistics.from_dict(statistics)

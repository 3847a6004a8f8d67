"""A few pictures, evenly spread over a recording of any length."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.replay.sampled_pictures import MOST, Frame, Frames


@given(st.integers(1, 400))
def test_no_more_than_a_few_are_kept_from_the_first_on_and_evenly(count):
    frames = Frames()
    for at in range(count):
        frames.add(Frame(at, ()))
    kept = [frame.at for frame in frames.kept]
    assert kept[0] == 0 and min(count, MOST // 2) <= len(kept) <= MOST
    assert len(set(np.diff(kept))) <= 1
    assert count - kept[-1] <= (kept[1] - kept[0] if len(kept) > 1 else 1)

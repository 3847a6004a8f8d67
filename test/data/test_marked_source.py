"""Episodes chosen by what was reported of them."""

from __future__ import annotations

import numpy as np
import pytest
from support.episodes import episode

from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.data.libero_source import LiberoSource
from heisd_ros.data.marked_source import only_marked
from heisd_ros.errors import DemonstrationError

PERSON = np.array([False, False, True])
EPISODES = (
    {"outcome": "success"},
    {"outcome": "failure"},
    {"outcome": "failure", "person": PERSON},
    {"outcome": "success", "person": PERSON},
    {},
)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "bowl_demo.hdf5"
    writer = LiberoWriter(path, "pick up the bowl", "x.bddl", {})
    for seed, marks in enumerate(EPISODES):
        writer.add(episode(steps=3, seed=seed, **marks), seed, np.zeros((3, 4)), "")
    return LiberoSource(path)


@pytest.mark.parametrize(
    ("only", "taken"),
    [(("success",), [0, 3]), (("corrected",), [2, 3]), (("success", "corrected"), [0, 2, 3])],
)
def test_only_marked_episodes_are_taken_and_the_others_counted(source, only, taken):
    (marked,) = only_marked([source], only)
    assert len(marked.outline()) == len(taken)
    for number, seed in enumerate(taken):
        wanted = episode(steps=3, seed=seed)
        np.testing.assert_array_equal(marked.episode(number, ()).actions, wanted.actions)
    (why,) = [reason for reason in marked.report.dropped if "not marked as" in reason]
    assert marked.report.dropped[why] == len(EPISODES) - len(taken)


def test_no_mark_takes_all_and_an_unknown_or_absent_one_is_named(source, tmp_path):
    assert only_marked([source], ()) == [source]
    with pytest.raises(ValueError, match="--only is 'good'; accepted: 'success' or 'corrected'"):
        only_marked([source], ["good"])
    path = tmp_path / "other_demo.hdf5"
    LiberoWriter(path, "open", "x.bddl", {}).add(episode(steps=3), 0, np.zeros((3, 4)), "")
    plain = LiberoSource(path)
    with pytest.raises(DemonstrationError, match="no episode that is marked as corrected"):
        only_marked([plain], ["corrected"])
    assert [len(each.outline()) for each in only_marked([plain, source], ["corrected"])] == [0, 2]

"""Recording an episode: which steps are kept, and which are only counted."""

from __future__ import annotations

import numpy as np
import pytest
from support.fleet import episode

from heisd_ros.errors import GrowthError
from heisd_ros.fleet.episode_recorder import EpisodeRecorder, Verified
from heisd_ros.fleet.recorded_episode import RecordedEpisode, episode_number


def verified(step):
    key = np.zeros(24, np.float32)
    key[step] = 1.0
    own = tuple(range(step, step + 7))
    return Verified(key, own)


def recorded(seen, instruction="push"):
    recorder = EpisodeRecorder()
    for step, own in enumerate(seen):
        recorder.note(instruction, np.full(7, step), verified(step) if own else None)
    return recorder


def test_only_what_the_model_saw_is_kept_under_the_number_of_its_step():
    kept = recorded([True, False, False, True, True]).finish()()
    assert kept.entries.steps.tolist() == [0, 3, 4]
    assert kept.entries.actions[:, 0].tolist() == [0, 3, 4]
    assert kept.entries.tokens[1].tolist() == list(range(3, 10))
    assert set(kept.entries.episodes) == {episode_number(kept.uid)}
    assert kept.ids == [f"{kept.uid}-{step}" for step in (0, 3, 4)]


def test_two_episodes_have_two_names():
    assert recorded([True]).finish()().uid != recorded([True]).finish()().uid


@pytest.mark.parametrize("seen", [[], [False, False]])
def test_an_episode_that_the_model_did_not_see_leaves_nothing(seen):
    assert recorded(seen).finish() is None


def test_a_dropped_or_finished_episode_is_gone():
    recorder = recorded([True, True])
    recorder.drop()
    assert recorder.finish() is None
    recorder = recorded([True, True])
    assert recorder.finish() is not None and recorder.finish() is None


def test_another_instruction_begins_an_episode():
    recorder = recorded([True, True, True])
    recorder.note("pull", np.zeros(7), verified(5))
    kept = recorder.finish()()
    assert kept.instruction == "pull" and kept.entries.steps.tolist() == [0]


def test_packing_keeps_everything_but_the_last_digits_of_keys():
    one = episode()
    other = RecordedEpisode.unpack(one.pack())
    assert (other.uid, other.instruction) == (one.uid, one.instruction)
    np.testing.assert_allclose(other.entries.keys, one.entries.keys, atol=3e-4)
    for name in ("tokens", "episodes", "steps"):
        np.testing.assert_array_equal(getattr(other.entries, name), getattr(one.entries, name))
    np.testing.assert_array_equal(other.entries.actions, one.entries.actions.astype("<f4"))


@pytest.mark.parametrize("data", [b"", b"nonsense", episode().pack()[:200]])
def test_other_bytes_are_refused(data):
    with pytest.raises(GrowthError, match="no recorded episode"):
        RecordedEpisode.unpack(data)

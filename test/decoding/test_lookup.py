"""The last answer, found again by content after a difference."""

from __future__ import annotations

import pytest
from support.references import FamilyReference

from heisd_ros.decoding import speculation
from heisd_ros.decoding.assembly import build_decoder
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.lookup import LENGTH, ROOM, continuations
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.types import Observation, Source
from heisd_ros.families.checkpoint import load_checkpoint

OLD = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]


@pytest.mark.parametrize(
    ("tokens", "following"),
    [
        ([10, 11, 12], [13, 14, 15]),
        ([10, 11, 99], [13, 14, 15]),  # one for one
        ([10, 11, 99], [12, 13, 14]),  # one put in
        ([10, 11, 98, 99], [14, 15, 16]),  # two for two
        ([10, 14, 15], [16, 17, 18]),  # three left out
        ([99, 98, 97, 15, 16], [17, 18, 19]),  # elsewhere
    ],
)
def test_the_old_answer_goes_on_after_a_difference(tokens, following):
    assert following in [list(draft[:3]) for draft in continuations(tokens, OLD)]


def test_of_equal_places_the_nearest_one():
    old = [1, 2, 50, 7, 7, 7, 1, 2, 60, 7, 7, 7, 1, 2, 70]
    assert continuations([9] * 6 + [1, 2], old)[0][0] == 60


def test_one_token_alone_is_no_place():
    assert continuations([98, 99, 15], OLD) == []
    assert continuations([], OLD) == []
    assert continuations([10], OLD)[0][0] == 11  # all that stands in front of it


def test_drafts_have_room():
    old = [*range(100)]
    drafts = continuations([0, 1, 77, 2, 3], old)
    assert all(len(draft) <= LENGTH for draft in drafts)
    assert sum(map(len, drafts)) <= ROOM


def test_an_episode_of_reasoning_is_lossless_in_a_third_of_the_passes():
    reference = FamilyReference("ecot")
    model = load_checkpoint(reference.folder)
    exact = build_decoder(model, load_mode("last_command"))
    passes, tokens = [], []
    for name in ("ep0", "ep1", "ep2"):
        case = reference.cases[name]
        observation = Observation((reference.image(case["image"]),), case["instruction"])
        result = exact.infer(observation)
        assert list(result.tokens) == case["generated_ids"]
        passes.append(result.passes)
        tokens.append(len(result.tokens))
    assert result.source == Source.LAST_COMMAND
    assert 0.8 * tokens[0] < passes[0] < tokens[0]  # nothing to draft from but fixed texts
    assert sum(passes[1:]) < sum(tokens[1:]) / 3
    exact.reset()
    plain = AutoregressiveDecoder(model).infer(observation)
    assert exact.infer(observation).tokens == plain.tokens


def test_the_models_own_guesses_save_passes_beside_the_last_answer(monkeypatch):
    reference = FamilyReference("ecot")
    model, passes = load_checkpoint(reference.folder), dict.fromkeys((0, speculation.GUESSES), 0)
    for guesses in list(passes):
        monkeypatch.setattr(speculation, "GUESSES", guesses)
        exact = build_decoder(model, load_mode("last_command"))
        for name in ("ep0", "ep3", "ep4"):
            case = reference.cases[name]
            seen = Observation((reference.image(case["image"]),), case["instruction"])
            result = exact.infer(seen)
            assert list(result.tokens) == case["generated_ids"]
            passes[guesses] += result.passes
    without, beside = passes.values()
    assert beside < without

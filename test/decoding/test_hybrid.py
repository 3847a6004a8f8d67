import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.drafts import FakeDatabase, FakeDrafter, FakeShard
from support.predictors import fit, predictor
from support.skipping import calibration
from support.small_models import CONFIG, INSTRUCTIONS, acting_vla, random_images

from heisd_ros.decoding.assembly import build_decoder
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.boundary import Boundary
from heisd_ros.decoding.chooser import Chooser
from heisd_ros.decoding.hybrid import HybridDecoder
from heisd_ros.decoding.proposers import Proposer, proposers_of
from heisd_ros.decoding.redraft import REDRAFT_ROOM, redraft
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.skip import SkipGate
from heisd_ros.decoding.tree import NO_DRAFT, DraftTree
from heisd_ros.decoding.types import Observation, Source
from heisd_ros.decoding.verifier import SecondChoice, Verification
from heisd_ros.errors import ModeError
from heisd_ros.kinematics.metric import MetricSample

VLA = acting_vla()
VLA.model.double()
FIRST = VLA.model.action_rows.start
ONCE = {"max_examples": 40, "deadline": None}


def motion(value):
    return MetricSample(value, 0.1, 0.1, 0.1, "paper", True, "velocity")


def observation(seed=0, f=0.9, instruction=INSTRUCTIONS[0]):
    proprio = np.zeros(CONFIG.proprio_size, np.float32)
    return Observation(random_images(CONFIG, seed), instruction, proprio, motion(f))


def own_tokens(seed=0):
    return AutoregressiveDecoder(VLA).infer(observation(seed)).tokens


def decoder(chains=(), drafted=(), boundary=0.5, calibration=None, **mode):
    settings = ModeSettings.from_dict({"propose": "hybrid", **mode})
    return HybridDecoder(
        VLA,
        settings,
        database=FakeDatabase(FakeShard(VLA, chains)) if len(chains) else None,
        proposers=proposers_of(settings, VLA, FakeDrafter(drafted) if len(drafted) else None),
        gate=SkipGate(settings.skip, calibration),
        boundary=Boundary(boundary, 0.0),
    )


@st.composite
def chains_near(draw, tokens):
    ids = st.integers(FIRST, FIRST + 255)
    chain = st.tuples(*[st.one_of(st.just(token), ids) for token in tokens])
    return draw(st.lists(chain, min_size=1, max_size=5))


@settings(**ONCE)
@given(st.data(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3))
def test_exact_modes_return_the_models_own_tokens(data, one_pass, redraft, cross, seed):
    tokens = own_tokens(seed)
    exact = {"accept": "exact"}
    last = data.draw(st.booleans())
    subject = decoder(
        data.draw(chains_near(tokens)),
        data.draw(chains_near(tokens[1:]))[0],
        one_pass=one_pass,
        redraft=redraft,
        retrieval={**exact, "cross": cross, "last": last},
        drafter={**exact, "depth": data.draw(st.integers(1, 6)), "last": last and one_pass},
    )
    subject.infer(observation(data.draw(st.integers(0, 3)), 0.1))  # makes the last command
    for f, source in ((0.9, "retrieval"), (0.1, "drafter")):
        result = subject.infer(observation(seed, f))
        assert (result.tokens, result.source) == (tokens, source)
        assert result.passes <= 8 - one_pass


def test_a_perfect_retrieved_draft_costs_one_pass():
    tokens = own_tokens()
    result = decoder([tokens], retrieval={"accept": "exact"}).infer(observation())
    assert (result.passes, result.accepted) == (1, 7)
    assert result.similarity == pytest.approx(0.99)
    assert "retrieval" in result.timings_ms and "draft" not in result.timings_ms


def test_two_passes_where_the_prefill_is_not_to_verify():
    tokens = own_tokens()
    mode = {"one_pass": False, "retrieval": {"accept": "exact"}}
    result = decoder([tokens], **mode).infer(observation())
    assert (result.passes, result.accepted, result.tokens) == (2, 6, tokens)


def test_a_perfect_drafter_costs_two_passes():
    tokens = own_tokens()
    result = decoder(drafted=tokens[1:], drafter={"accept": "exact", "depth": 6}).infer(
        observation()
    )
    assert (result.source, result.passes, result.accepted) == ("drafter", 2, 6)


def test_redrafting_drafts_what_the_model_said_behind_a_wrong_token(monkeypatch):
    tokens = own_tokens()
    wrong = (*tokens[:2], FIRST + (tokens[2] == FIRST), *tokens[3:])
    exact = {"retrieval": {"accept": "exact"}}
    plain = decoder([wrong], **exact).infer(observation())
    assert (plain.passes, plain.accepted, plain.tokens) == (5, 2, tokens)
    again = decoder([wrong], redraft=True, **exact).infer(observation())
    assert again.passes <= 5 and again.tokens == tokens
    # A model that says the same behind a wrong token needs one more pass.
    answers = property(lambda self: tokens[len(self.tokens) :], lambda self, value: None)
    monkeypatch.setattr(Verification, "answers", answers)
    same = decoder([wrong], redraft=True, **exact).infer(observation())
    assert (same.passes, same.accepted, same.tokens) == (2, 6, tokens)


@pytest.mark.parametrize("place", range(4))
def test_redrafting_drafts_the_second_choice_too(monkeypatch, place):
    tokens = own_tokens()
    wrong = (*tokens[:2], FIRST + (tokens[2] == FIRST), *tokens[3:])

    def said(self):
        first = len(self.tokens) + place
        if first >= len(tokens):
            return tokens[len(self.tokens) :]
        return (*tokens[len(self.tokens) : first], FIRST, *tokens[first + 1 :])

    monkeypatch.setattr(Verification, "answers", property(said, lambda self, value: None))

    def seconds(self):
        left = tokens[len(self.tokens) :]
        return [SecondChoice(token, float(n != place)) for n, token in enumerate(left)]

    monkeypatch.setattr(Verification, "second_choices", seconds)
    step = decoder([wrong], redraft=True, retrieval={"accept": "exact"}).infer(observation())
    assert FIRST not in tokens[3:]
    assert (step.passes, step.accepted, step.tokens) == (2, 6, tokens)


def test_the_last_command_is_a_draft_too_where_it_has_a_vote():
    tokens = own_tokens()
    exact = {"retrieval": {"accept": "exact", "last": True}}
    subject = decoder([far(tokens)], **exact)
    assert subject.infer(observation()).passes == 7
    assert subject.infer(observation()).passes == 1
    subject.reset()
    assert subject.infer(observation()).passes == 7


def test_in_slow_motion_the_last_command_is_verified_before_the_drafter_is_asked():
    tokens = own_tokens()
    mode = {"drafter": {"accept": "exact", "depth": 6, "last": True}}
    drafted = list(far(tokens)[1:])
    subject = decoder(drafted=drafted, **mode)
    first, again = (subject.infer(observation()) for _ in range(2))
    assert first.passes == 7 and "draft" in first.timings_ms
    assert (again.source, again.passes, again.accepted) == ("drafter", 1, 7)
    assert "draft" not in again.timings_ms
    # Another observation: what is left of the step is the drafter's.
    other = own_tokens(1)
    assert other != tokens
    drafted[:] = other[1:]
    left = subject.infer(observation(1))
    assert (left.tokens, left.passes) == (other, 2) and "draft" in left.timings_ms


def test_the_database_is_not_asked_while_the_arm_is_slow():
    tokens = own_tokens()
    for speed, searched in ((0.09, True), (0.11, False)):  # the arm moves at 0.1 m/s
        exact = {"retrieval": {"accept": "exact", "last": True, "speed": speed}}
        subject = decoder([far(tokens)], drafted=tokens[1:], **exact)
        # Without a last command there is nothing else to draft.
        first, again = (subject.infer(observation()) for _ in range(2))
        assert first.similarity is not None and first.passes == 7
        assert (again.passes, again.tokens) == (1, tokens)
        assert again.source == ("retrieval" if searched else "last_command")
        assert (again.similarity is not None) == searched
        assert ("last command: 0.100 m/s < 0.11" in again.reason) != searched
    # F low is the drafter's, however slow, and so is a task that the database does not know.
    assert subject.infer(observation(f=0.1)).source == "drafter"
    unknown = subject.infer(observation(instruction=INSTRUCTIONS[1]))
    assert unknown.source == "drafter" and "no retrieval" in unknown.reason


def test_the_last_command_alone_can_be_a_modes_proposer():
    tokens = own_tokens()
    mode = {"propose": "last_command", "drafter": {"accept": "exact"}}
    subject = build_decoder(VLA, ModeSettings.from_dict(mode))
    first, again, other = (subject.infer(observation(seed)) for seed in (0, 0, 1))
    assert (first.source, first.passes, first.accepted) == ("autoregressive", 7, None)
    assert (again.source, again.passes, again.accepted) == ("last_command", 1, 7)
    assert (first.tokens, again.tokens, other.tokens) == (tokens, tokens, own_tokens(1))
    subject.reset()
    assert subject.infer(observation()).source == "autoregressive"


@pytest.mark.parametrize("after", [False, True])
def test_a_proposer_of_ones_own_is_one_class(after):
    tokens = own_tokens()

    class Oracle(Proposer):
        source, accept, room = Source.DRAFTER, "exact", 6

        def propose(self, step):
            assert (step.last, step.matches) == (None, None)
            return NO_DRAFT if after else DraftTree.from_chains([tokens])

        def propose_after(self, step, verification):
            assert verification.tokens == [tokens[0]]
            return DraftTree.from_chains([tokens[1:]])

    mode = ModeSettings.from_dict({"propose": "drafter"})
    subject = HybridDecoder(
        VLA, mode, database=None, proposers={Oracle.source: Oracle()}, boundary=None,
        gate=SkipGate(mode.skip),
    )  # fmt: skip
    result = subject.infer(observation())
    assert (result.source, result.tokens) == ("drafter", tokens)
    assert (result.passes, result.accepted) == ((2, 6) if after else (1, 7))


def test_a_consensus_of_the_entries_is_one_draft():
    tokens = own_tokens()
    mode = {"retrieval": {"accept": "exact", "draft": "consensus"}}
    around = [[token + n for token in tokens[:6]] + [tokens[6]] for n in (-2, 2)]
    assert decoder(around, **mode).infer(observation()).passes == 1  # their mean
    assert decoder([tokens, far(tokens)], **mode).infer(observation()).passes == 7


def test_only_exact_redrafts_have_the_nearest_second_choices_in_them():
    behind = {20: 0.3, 21: 0.1, 22: 0.2}
    said = SimpleNamespace(
        tokens=[1],
        answers=(10, 11, 12),
        second_choices=lambda: [SecondChoice(*each) for each in behind.items()],
    )
    first = (10, 11, 12)
    assert redraft(said, NO_DRAFT, "sequence_relaxed").chains() == [first]
    exact = redraft(said, NO_DRAFT, "exact").chains()
    assert sorted(exact) == [(10, 11, 12), (10, 11, 22), (10, 21, 12)]
    all_six = SimpleNamespace(
        tokens=[1],
        answers=tuple(range(10, 16)),
        second_choices=lambda: [SecondChoice(20 + n, float(n)) for n in range(6)],
    )
    read = redraft(all_six, NO_DRAFT, "exact").above(5)  # the last level is only judged
    assert len(read) == REDRAFT_ROOM


def test_without_a_shard_there_is_no_retrieval_and_the_reason_says_so():
    tokens = own_tokens()
    subject = decoder([tokens])
    result = subject.infer(observation(instruction=INSTRUCTIONS[1]))
    assert (result.source, result.passes) == ("autoregressive", 7)
    assert "no shard" in result.reason


def test_slow_motion_without_a_drafter_is_the_plain_loop():
    result = decoder([own_tokens()]).infer(observation(f=0.1))
    assert (result.source, result.accepted, result.tokens) == ("autoregressive", None, own_tokens())


SKIP = {"policy": "threshold", "similarity": 0.9, "dispersion": 40, "shadow_share": 0.0}


def test_a_trusted_step_is_executed_without_verification():
    tokens = own_tokens()
    subject = decoder([tokens, tokens], skip={**SKIP, "max_consecutive": 2})
    sources = [subject.infer(observation()).source for _ in range(5)]
    # The gripper's last command is known after a verified step only.
    assert sources == ["retrieval", "skip", "skip", "retrieval", "skip"]
    result = subject.infer(observation())
    assert (result.passes, result.tokens) == (0, tokens)
    np.testing.assert_array_equal(result.action, VLA.codec.decode(tokens)[0])
    assert "prefill" not in result.timings_ms


def far(tokens):
    """The same gripper, another motion."""
    moved = [FIRST + (token - FIRST + 100) % 256 for token in tokens[:-1]]
    return (*moved, tokens[-1])


def test_nothing_is_skipped_while_the_arm_is_slow_or_its_speed_unknown():
    tokens = own_tokens()
    for speed, skips in ((0.09, True), (0.11, False)):  # the arm moves at 0.1 m/s
        subject = decoder([tokens, tokens], skip={**SKIP, "speed": speed})
        subject.infer(observation())
        assert (subject.infer(observation()).source == "skip") == skips
    blind = dataclasses.replace(observation(), motion=None)
    subject = decoder([tokens, tokens], skip={**SKIP, "speed": 0.01})
    assert [subject.infer(blind).source for _ in range(3)] == ["autoregressive"] * 3


def test_nothing_is_skipped_in_a_shard_that_grew_after_its_calibration():
    tokens = own_tokens()
    mode = {"skip": {"policy": "calibrated", "shadow_share": 0.0}, "retrieval": {"k": 2}}
    for grown, source in ((False, "skip"), (True, "retrieval")):
        subject = decoder([tokens, tokens], calibration=calibration(k=2), **mode)
        subject.database.shard.grown = grown
        subject.infer(observation())
        step = subject.infer(observation())
        assert step.source == source
        assert ("knows no added entries" in step.reason) == grown


def test_the_last_command_is_that_of_the_newest_step():
    first, second = own_tokens(0), own_tokens(1)
    assert first != second
    subject = decoder([far(first)], retrieval={"accept": "exact", "last": True})
    passes = [subject.infer(observation(seed)).passes for seed in (0, 1, 1, 0)]
    assert passes[2] == 1, "the second step's command is the third one's draft"
    assert passes[3] > 1, "the first step's is no longer available"


@pytest.mark.parametrize("policy", ["always", "threshold", "cadence", "random"])
def test_a_similar_instruction_drafts_but_is_never_executed_unverified(policy):
    tokens = own_tokens()
    skip = {**SKIP, "policy": policy, "rate": 1.0, "max_consecutive": 9}
    for how, skips in (("exact", True), ("nearest: 'put it between the plates'", False)):
        subject = decoder([tokens, tokens], skip=skip)
        subject.database.how = how
        steps = [subject.infer(observation()) for _ in range(12)]
        assert any(step.source == "skip" for step in steps) == skips
        assert skips or (steps[0].accepted == 7 and "another instruction" in steps[0].reason)


def test_a_held_command_is_repeated_without_a_look():
    subject = decoder([own_tokens(0)], skip={"policy": "hold", "rate": 1.0})
    first, *held = [subject.infer(observation(seed)) for seed in (0, 1, 2)]
    assert first.source == "retrieval" and own_tokens(1) != own_tokens(0)
    for step in held:
        assert (step.source, step.passes, step.tokens) == ("skip", 0, first.tokens)
        assert "vision" not in step.timings_ms and "once more" in step.reason
    subject.reset()
    assert subject.infer(observation(1)).tokens == own_tokens(1), "an episode begins with a look"


def test_an_accepted_draft_is_corrected_where_the_mode_says_so():
    """The mode's setting reaches the verification, and what comes of it is executed."""
    asked = []

    def start(*arguments):
        asked.append(arguments[5])
        return Verification.start(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heisd_ros.decoding.speculation.Verification", SimpleNamespace(start=start))
        for correct in (True, False):
            decoder([own_tokens()], correct=correct).infer(observation())
    assert asked == [True, False]


@pytest.mark.parametrize("agrees", [True, False])
def test_a_skipped_step_is_verified_while_the_arm_moves(agrees):
    tokens = own_tokens()
    entry = tokens if agrees else far(tokens)
    skip = {**SKIP, "act_first": True, "max_consecutive": 9}
    subject = decoder([entry, entry], skip=skip, retrieval={"accept": "exact"})
    first = subject.infer(observation())
    assert first.source == "retrieval" and subject.settle() is None
    assert subject.infer(observation()).source == "skip"
    settled = subject.settle()
    assert settled.agrees == agrees and settled.ms > 0
    assert subject.settle() is None
    following = subject.infer(observation())
    if agrees:
        assert following.source == "skip"
    else:
        assert following.source == "retrieval" and following.tokens == tokens
        assert "disagreed" in following.reason
        assert subject.infer(observation()).source == "skip"


def test_reset_forgets_gripper_and_disagreement():
    tokens = own_tokens()
    subject = decoder([tokens], skip={**SKIP, "max_consecutive": 9, "act_first": True})
    subject.infer(observation())
    assert subject.infer(observation()).source == "skip"
    subject.reset()
    assert subject.settle() is None
    assert subject.infer(observation()).source == "retrieval"


def test_demonstrated_actions_become_tokens():
    demonstrated = tuple(range(FIRST + 20, FIRST + 90, 10))
    shard = FakeShard(VLA, [own_tokens()])
    shard.matches = dataclasses.replace(
        shard.matches, actions=VLA.codec.actions([demonstrated]).astype(np.float32)
    )
    mode = ModeSettings.from_dict(
        {
            "propose": "retrieval",
            "retrieval": {"payload": "demonstrated"},
            "skip": {"policy": "always"},
        }
    )
    subject = build_decoder(VLA, mode, database=FakeDatabase(shard))
    assert subject.infer(observation()).tokens == demonstrated


def test_every_part_of_a_step_is_charged():
    tokens = own_tokens()
    subject = decoder([tokens], tokens[1:])
    for f in (0.9, 0.1):
        timings = subject.infer(observation(f=f)).timings_ms
        assert sum(timings.values()) - timings["total"] == pytest.approx(timings["total"])


def choosing(chains, chances, drafted=(), how="exact", grown=False, **mode):
    """A decoder whose ways are chosen by a predictor with these chances."""
    settings = ModeSettings.from_dict(
        {"propose": "hybrid", "boundary": {"kind": "predicted"}, **mode}
    )
    proposers = proposers_of(settings, VLA, FakeDrafter(drafted) if len(drafted) else None)
    shard = FakeShard(VLA, chains)
    shard.grown = grown
    return HybridDecoder(
        VLA,
        settings,
        database=FakeDatabase(shard, how),
        proposers=proposers,
        gate=SkipGate(settings.skip),
        boundary=None,
        chooser=Chooser(predictor(chances=chances), VLA.codec.groups, proposers),
    )


SKIPPING = {
    "skip": {"policy": "predicted", "chance": 0.8, "shadow_share": 0.0, "max_consecutive": 1}
}
ALWAYS_SEARCH = {"retrieval before the search": fit(40.0), "last_command": fit(-40.0)}
EXACT_RULES = {"retrieval": {"accept": "exact"}, "drafter": {"accept": "exact"}}


@settings(**ONCE)
@given(st.data(), st.integers(0, 3), st.integers(0, 3))
def test_the_tokens_do_not_depend_on_what_a_predictor_says(data, first, second):
    """Only the time may: in an exact mode every way gives the model's own tokens."""
    log_odds = st.floats(-5.0, 5.0)
    chances = {
        name: fit(data.draw(log_odds))
        for name in ("retrieval", "last_command", "drafter", "retrieval before the search")
    }
    tokens = own_tokens(second)
    subject = choosing(
        data.draw(chains_near(tokens)),
        chances,
        data.draw(chains_near(tokens[1:]))[0],
        redraft=data.draw(st.booleans()),
        **EXACT_RULES,
    )
    subject.infer(observation(first))
    result = subject.infer(observation(second))
    assert result.tokens == tokens and 0.0 <= result.chance <= 1.0
    assert str(result.source) in ("retrieval", "last_command", "drafter")
    assert f"predicted: {result.source}" in result.reason


def test_a_predicted_skip_executes_the_nearest_entry_and_then_verifies():
    entry = own_tokens(1)
    chances = {**ALWAYS_SEARCH, "skip": fit(2.0), "skip before the search": fit(2.0)}
    subject = choosing([entry], chances, **SKIPPING, **EXACT_RULES)
    results = [subject.infer(observation(seed)) for seed in (1, 0, 0)]
    assert [str(result.source) for result in results] == ["retrieval", "skip", "retrieval"]
    assert results[1].tokens == entry and results[1].chance == pytest.approx(0.88, abs=0.001)
    assert "skip: harmless with 0.88 >= 0.8" in results[1].reason
    assert "no skip: 1 in a row" in results[2].reason


@pytest.mark.parametrize(
    ("other", "reason"),
    [({"how": "nearest"}, "another instruction"), ({"grown": True}, "added entries")],
)
def test_no_predictor_skips_what_it_was_not_fitted_to(other, reason):
    chances = {**ALWAYS_SEARCH, "skip": fit(40.0), "skip before the search": fit(40.0)}
    subject = choosing([own_tokens()], chances, **other, **SKIPPING)
    results = [subject.infer(observation()) for _ in range(3)]
    assert {str(result.source) for result in results} == {"retrieval"}
    assert all("no skip: " in r.reason and reason in r.reason for r in results)


def test_in_slow_motion_every_draft_is_accepted_exactly():
    """Relaxed acceptance would take the entry, which is one bin off."""
    own = own_tokens()
    near = (*own[:5], own[5] - 1 if own[5] > FIRST else own[5] + 1, own[6])
    rules = {"retrieval": {"accept": "sequence_relaxed", "speed": 0.2, "last": True}}
    rules["drafter"] = {"accept": "exact"}
    for speed, fast in ((0.3, True), (0.1, False)):
        subject = choosing([near], ALWAYS_SEARCH, **rules, skip={"speed": 0.2})
        moving = dataclasses.replace(motion(0.5), speed=speed)
        result = subject.infer(dataclasses.replace(observation(), motion=moving))
        assert (result.tokens[5] == near[5]) == fast
        assert fast or result.tokens == own


def test_a_predictor_forgets_the_episode():
    chances = {"last_command": fit(40.0), "drafter": fit(-40.0)}
    subject = choosing([own_tokens()], chances, own_tokens()[1:], **EXACT_RULES)
    assert [str(subject.infer(observation()).source) for _ in range(2)][1] == "last_command"
    subject.reset()
    assert str(subject.infer(observation()).source) != "last_command"


def test_a_predicted_mode_without_a_predictor_is_refused():
    mode = ModeSettings.from_dict({"propose": "hybrid", "boundary": {"kind": "predicted"}})
    with pytest.raises(ModeError, match="heisd calibrate DATABASE --criterion predictor"):
        build_decoder(VLA, mode, database=FakeDatabase(None), drafter=FakeDrafter(()))


def test_a_shadow_check_judges_by_what_the_predictor_says():
    """Twenty bins are out of the tolerance, and harmless where `agree` is thirty."""
    own = own_tokens()
    far = own[0] + (20 if own[0] < FIRST + 200 else -20)
    chances = {**ALWAYS_SEARCH, "skip": fit(40.0), "skip before the search": fit(40.0)}
    for agree in (30, 10):
        skip = {**SKIPPING["skip"], "shadow_share": 1.0, "agree": agree}
        subject = choosing([(far, *own[1:])], chances, skip=skip, **EXACT_RULES)
        results = [subject.infer(observation()) for _ in range(2)]
        assert str(results[1].source) == "skip" and subject.settle().agrees == (agree == 30)

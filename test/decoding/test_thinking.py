"""How much of a reasoning is decoded: by upstream's counter, by the metric, and what ends it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.references import FamilyReference
from support.small_models import small_vla

from heisd_ros.decoding.assembly import Assembly, build_decoder
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.boundary import Zone
from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.settings import ModeSettings, ReasoningSettings
from heisd_ros.decoding.thinking import Thinking
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import AnswerError, ModeError
from heisd_ros.families.checkpoint import load_checkpoint
from heisd_ros.families.ecot.codec import EcotAnswer
from heisd_ros.kinematics.bounds_file import BOUNDS_FILE, load_bounds
from heisd_ros.kinematics.metric import MetricSample

REFERENCE = FamilyReference("ecot")
FREEZING = REFERENCE.content["freezing"]
TASK = "put the spoon on the towel"
BOUNDS = load_bounds("paper", "", REFERENCE.folder)[0]


@pytest.fixture(scope="module")
def model():
    return load_checkpoint(REFERENCE.folder)


def motion(value):
    return MetricSample(value, 0.1, 0.1, 0.1, "paper", True, "velocity")


def observation(frame, value=0.9, instruction=TASK):
    picture = REFERENCE.image(f"image_{frame}.png")
    return Observation((picture,), instruction, None, motion(value))


def decoder(model, name="heisd_reason", **reasoning):
    mode = load_mode(name)
    given = {**vars(mode.reasoning), **reasoning}
    mode = ModeSettings(**{**vars(mode), "reasoning": ReasoningSettings(**given)})
    return build_decoder(model, mode, bounds=BOUNDS)


@torch.inference_mode()
def behind(model, seen, kept):
    """The plain loop behind a forced beginning, read with the prompt as text of it."""
    inputs = model.encode(seen.images, seen.instruction)
    columns = model.prompt(inputs, model.features(inputs)).columns
    forced = model.embed_tokens(torch.tensor([kept]))
    sequence, said = model.engine.start(torch.cat([columns, forced], dim=1))
    tokens = [*kept, *said.greedy.tolist()]
    while not model.codec.finished(tokens):
        tokens += sequence.extend(tokens[-1]).greedy.tolist()
    return tuple(tokens)


def test_freezing_is_upstreams(model):
    subject = decoder(model, "freeze")
    for call in FREEZING:
        result = subject.infer(observation(call["frame"]))
        # The first id of upstream's prefix is TASK:, which our prompt holds.
        assert list(result.tokens) == [*call["prefix_ids"][1:], *call["generated_ids"]]
        np.testing.assert_allclose(result.action, call["actions"], rtol=0, atol=1e-15)
        assert (result.source == "kept") == (len(call["prefix_ids"]) > 1)
        assert result.passes <= call["n_new"] and not result.problem
    subject.reset()
    assert subject.infer(observation("ep1")).source == "tags"


def test_by_the_metric_it_thinks_where_motion_is_slow(model):
    subject, plain = decoder(model, accept="exact"), AutoregressiveDecoder(model)
    seen = [("ep0", 0.9), ("ep0", 0.9), ("ep0", 0.1), ("ep0", 0.1), ("ep0", 0.9), ("ep1", 0.9)]
    results = [subject.infer(observation(*frame)) for frame in seen]
    assert [str(result.source) for result in results] == [
        "tags", "kept", "last_command", "last_command", "kept", "kept",
    ]  # fmt: skip
    for (frame, value), result in zip(seen, results, strict=True):
        own = plain.infer(observation(frame, value)).tokens
        if result.source == "kept":
            kept = model.codec.kept(results[0].tokens, "motion")
            assert result.tokens == behind(model, observation(frame), kept)
            assert "keeps the reasoning" in result.reason
        else:
            assert result.tokens == own and "thinks" in result.reason
    # The picture is the same: what follows the kept words is drafted by the last answer.
    assert results[1].passes == 1
    in_two = build_decoder(model, replace(subject.mode, one_pass=False), bounds=BOUNDS)
    assert [in_two.infer(observation("ep0")).passes for _ in range(2)][1] == 2
    assert results[-1].reasoning.startswith("Put the spoon on the towel. PLAN:")


def test_actions_are_accepted_within_bounds_in_fast_motion_alone(model):
    subject = decoder(model)
    own = subject.infer(observation("ep0")).tokens
    # The last token of a group: no other one of it depends on it.
    place = [n for n, token in enumerate(own) if token in model.codec.action_ids][2]
    for value, off, accepted in ((0.9, 5, True), (0.9, 16, False), (0.1, 5, False)):
        subject.infer(observation("ep0", 0.1))
        draft = list(own)
        draft[place] += off if own[place] + off in model.codec.action_ids else -off
        subject._last = tuple(draft)
        result = subject.infer(observation("ep0", value))
        assert result.tokens[: place + 1] == tuple(draft if accepted else own)[: place + 1]


def test_unknown_motion_is_slow(model):
    subject = decoder(model)
    subject.infer(observation("ep0"))
    unknown = Observation(observation("ep0").images, TASK)
    assert subject.infer(unknown).source == "last_command"


def test_another_instruction_and_a_reset_keep_nothing(model):
    subject = decoder(model, accept="exact")
    for other in (lambda: "close the drawer", lambda: subject.reset() or TASK):
        subject.infer(observation("ep0"))
        assert subject.infer(observation("ep0")).source == "kept"
        instruction = other()
        result = subject.infer(observation("ep0", instruction=instruction))
        assert "no answer before it" in result.reason and result.source != "kept"
        own = AutoregressiveDecoder(model).infer(observation("ep0", instruction=instruction))
        assert result.tokens == own.tokens


def test_after_a_hold_it_thinks(model):
    for name in ("freeze", "heisd_reason"):
        subject = decoder(model, name)
        subject.infer(observation("ep0"))
        held = replace(observation("ep0"), after_hold=True)
        assert "thinks: the arm was held" in subject.infer(held).reason
        assert subject.infer(observation("ep0")).source == "kept"


def test_a_step_that_failed_leaves_nothing_to_keep(model):
    subject = decoder(model)
    subject.infer(observation("ep0"))
    broken = Observation((), TASK, None, motion(0.9))
    with pytest.raises(Exception, match="0 images"):
        subject.infer(broken)
    assert "no answer before it" in subject.infer(observation("ep0")).reason


def test_an_action_that_is_not_to_be_used_is_decoded_again_in_full(model, monkeypatch):
    subject = decoder(model, accept="exact")
    subject.infer(observation("ep0"))
    monkeypatch.setattr(Thinking, "problem", lambda self, tokens: "no good")
    result = subject.infer(observation("ep1"))
    assert result.tokens == AutoregressiveDecoder(model).infer(observation("ep1")).tokens
    assert result.source == "last_command" and "decoded again: no good" in result.reason
    assert result.passes > 1


def test_a_limit_within_the_kept_answer_is_no_hold():
    """The answer behind the kept words reaches the limit; the full one of the frame does not."""
    model = load_checkpoint(REFERENCE.folder, max_tokens=115)
    subject = decoder(model, "freeze")
    assert not subject.infer(observation("ep0")).problem
    result = subject.infer(observation("ep1"))
    assert result.problem and "decoded again" in result.reason
    assert result.tokens == AutoregressiveDecoder(model).infer(observation("ep1")).tokens
    assert "no answer before it" in subject.infer(observation("ep0")).reason


class Words(EcotAnswer):
    """Answers without a tokenizer: words below 90, actions, the id 2."""

    def decode(self, tokens):
        if len([token for token in tokens if token in self.action_ids]) != 7:
            raise AnswerError("no seven")
        return np.zeros((1, 7))

    def text(self, tokens):
        return "words"

    def kept(self, tokens, again):
        return tuple(token for token in tokens if token < 90 and token != 2)

    horizon, dimensions = 1, 7


CODEC = Words(356, 64, frozenset({2}))
FAST, SLOW = Zone(True, "F 0.90 >= 0.25"), Zone(False, "F 0.10 < 0.25")


def answer(action=200, gripper=300, word=50):
    return (word, 51, *(action,) * 6, gripper, 2)


def rules(**settings):
    return Thinking(ReasoningSettings(**{"keep": "motion", "clearance": 2, **settings}), CODEC)


def keeps(thinking, zone=FAST, task=TASK):
    return bool(thinking.decide(task, zone)[0])


def test_it_is_kept_no_longer_than_the_steps_in_a_row():
    for keep, zone in (("count", None), ("motion", FAST)):
        thinking = rules(keep=keep, steps=3)
        seen = []
        for _ in range(9):
            kept = thinking.decide(TASK, zone).kept
            seen.append(bool(kept))
            thinking.note(answer(), kept)
        assert seen == [False, True, True, True] * 2 + [False]


def test_near_a_change_of_the_gripper_all_is_decoded():
    thinking = rules()
    thinking.decide(TASK, FAST), thinking.note(answer())
    assert keeps(thinking)
    assert thinking.problem(answer(gripper=301)) == "the gripper would change"
    assert not thinking.problem(answer())
    thinking.note(answer(gripper=301))
    seen = []
    for _ in range(3):
        seen.append(keeps(thinking))
        thinking.note(answer(gripper=301))
    assert seen == [False, False, True]


def test_upstreams_counter_looks_at_nothing_else():
    thinking = rules(keep="count")
    # Its drafts are accepted by the rule of their proposer, also where a hybrid mode has a zone.
    assert thinking.decide(TASK, FAST).accept is None
    thinking.decide(TASK, None), thinking.note(answer())
    thinking.decide(TASK, None), thinking.note(answer(action=250, gripper=301), (50, 51))
    assert not thinking.problem(answer(gripper=300))
    assert keeps(thinking, SLOW)


def test_a_surprise_is_followed_by_thinking():
    thinking = rules()
    thinking.decide(TASK, FAST), thinking.note(answer())
    assert keeps(thinking)
    thinking.note(answer(action=205), (50, 51))
    assert keeps(thinking)  # 5 bins each are within the bounds
    thinking.note(answer(action=216), (50, 51))
    assert not keeps(thinking)
    thinking.note(answer(action=216))
    assert keeps(thinking)


def test_an_answer_that_stands_for_no_action_keeps_nothing():
    thinking = rules()
    thinking.decide(TASK, FAST), thinking.note(answer())
    thinking.decide(TASK, FAST), thinking.note((50, 51, 200, 2))
    assert "no answer before it" in thinking.decide(TASK, FAST).reason
    assert thinking.problem((50, 2)) == "no seven"


def test_an_answer_without_words_has_nothing_to_keep():
    thinking = rules()
    thinking.decide(TASK, FAST), thinking.note(answer()[2:])
    assert thinking.decide(TASK, FAST)[:2] == ((), "thinks: the last answer has nothing to keep")


def test_bounds_for_fast_motion_are_refused_where_no_metric_is_used():
    mode = load_mode("heisd_reason")
    with pytest.raises(ModeError, match=r"reasoning.accept is .*keep is 'count'; accepted .*exact"):
        replace(mode, reasoning=replace(mode.reasoning, keep="count"))


@pytest.mark.parametrize("name", ["freeze", "heisd_reason"])
def test_a_model_that_does_not_reason_refuses_the_mode(name):
    with pytest.raises(ModeError, match=r"reasoning.keep is .*hold no reasoning; accepted .*never"):
        build_decoder(small_vla(), load_mode(name), bounds=BOUNDS)


def test_the_metrics_bounds_come_from_a_file(tmp_path):
    mode = load_mode("heisd_reason")
    assert Assembly(tmp_path).bounds(mode).boundary == 0.25
    assert Assembly(tmp_path).bounds(load_mode("freeze")) is None
    file = tmp_path / BOUNDS_FILE
    file.write_text(Assembly(tmp_path).bounds(mode).to_json().replace("0.25", "0.75"))
    assert Assembly(tmp_path).bounds(mode).boundary == 0.75
    file.write_text("{}")
    with pytest.raises(ModeError, match=rf"boundary.metric 'paper' has no bounds: .*{BOUNDS_FILE}"):
        Assembly(tmp_path).bounds(mode)
    with pytest.raises(ModeError, match="needs the metric's bounds"):
        build_decoder(small_vla(), mode)


def test_the_plain_loop_keeps_nothing():
    with pytest.raises(ModeError, match="propose 'none' is the plain loop"):
        ModeSettings(reasoning=ReasoningSettings(keep="count"))


def test_a_mode_without_it_is_what_it_was():
    """Calibrations name every decisive setting, and those of before know nothing of reasonings."""
    assert not any("reasoning" in name for name in load_mode("heisd").decisive())
    assert load_mode("freeze").decisive()["reasoning.steps"] == 4

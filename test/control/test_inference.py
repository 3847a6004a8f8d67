"""From an observation set to a result, or to the named reason for which the arm is held."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.small_models import CONFIG, INSTRUCTIONS, acting_vla, random_images

from heisd_ros.control.holds import HoldReason
from heisd_ros.control.inference import PolicyRunner
from heisd_ros.control.inputs import ObservationSet, Received
from heisd_ros.control.policy import Policy
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import StepResult


@pytest.fixture
def runner(monkeypatch):
    """The node's path around a small model, with proprioception of its own."""
    vla = acting_vla()
    policy = Policy(AutoregressiveDecoder(vla), Path(), CONFIG.views, 32, 3, 20.0, INSTRUCTIONS)
    monkeypatch.setattr("heisd_ros.control.inference.proprio_vector", lambda *_: np.zeros(3))
    return PolicyRunner(policy, lambda picture: picture), vla.model


def infer(runner, opening=0.0):
    arm = SimpleNamespace(tip=lambda: None, gripper_opening=opening, motion=None, unseen_fingers=())
    images = tuple(Received(0, 0, picture) for picture in random_images())
    observation = ObservationSet(images, Received(0, 0, arm), 0, 0)
    return runner.infer(observation, INSTRUCTIONS[0], 0, 0)


def test_an_answer_of_actions_is_a_step(runner):
    runner, _ = runner
    assert np.isfinite(infer(runner).outcome.action).all()


def test_an_answer_that_stands_for_no_action_is_a_hold_of_its_own(runner):
    """An id that is no action decodes upstream to the end of its range: motion at full speed."""
    runner, model = runner
    with torch.no_grad():
        model.language_model.lm_head.weight[5] = model.language_model.lm_head.weight.sum(0) * 9
        model.language_model.lm_head.weight[model.action_rows] *= -1e-3
    inference = infer(runner)
    assert inference.outcome.reason is HoldReason.NO_ACTION
    assert "are no actions; accepted: 7 ids from" in inference.outcome.detail
    assert not inference.trace, "it is the model's answer, and no fault of the program"


def test_a_hold_is_told_with_the_next_observation_and_once(runner, monkeypatch):
    runner, _ = runner
    seen = []
    monkeypatch.setattr(runner._policy.decoder, "infer", lambda o: seen.append(o.after_hold))
    infer(runner)
    runner.note_hold()
    assert infer(runner, opening=None).outcome.reason is HoldReason.BAD_JOINT_STATES
    infer(runner), infer(runner)
    assert seen == [False, True, False]


@pytest.mark.parametrize(
    ("spoil", "reason", "said"),
    [
        (lambda chunk: chunk, None, ""),
        (lambda chunk: chunk[:2], HoldReason.NO_ACTION, "a chunk has 2 actions; accepted: at le"),
        (lambda chunk: chunk[:, :6], HoldReason.MODEL_ERROR, "action 1 of a chunk is"),
        (lambda chunk: chunk * np.inf, HoldReason.MODEL_ERROR, "action 1 of a chunk is [inf"),
        (
            lambda chunk: np.where(np.arange(4)[:, None] == 3, np.nan, chunk),
            HoldReason.MODEL_ERROR,
            "action 4 of a chunk is [nan",
        ),
    ],
)
def test_every_action_of_a_chunk_is_checked_before_the_first_is_executed(spoil, reason, said):
    chunk = spoil(np.ones((4, 7)))

    class Chunks:
        def reset(self, success=None):
            pass

        def infer(self, observation):
            return StepResult(np.ones(7), (), "skip", "", {"total": 1.0}, 0, chunk=chunk)

    policy = Policy(Chunks(), Path(), ("a", "b"), 32, 0, 20.0, None, least_actions=3)
    outcome = infer(PolicyRunner(policy, lambda picture: picture)).outcome
    if reason is None:
        assert outcome.actions is chunk
    else:
        assert outcome.reason is reason and said in outcome.detail

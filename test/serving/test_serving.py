"""A decoder behind a server decides as it does at home."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.serving import (
    LAYOUT,
    Counting,
    observation,
    serving,
    serving_policy,
)
from support.tiny_vla import INSTRUCTIONS
from websockets.sync.client import connect

from heisd_ros.control.policy import load_policy
from heisd_ros.decoding.types import Settled, Source
from heisd_ros.errors import (
    ImageError,
    ProprioceptionError,
    UnknownInstructionError,
)
from heisd_ros.kinematics.metric import MetricBounds, MetricSample, MetricSettings
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.serving.messages import pack

METRIC = MetricSample(0.5, 0.1, 0.2, 0.3, "paper", True, "velocity")


def test_a_policy_decides_behind_a_server_as_at_home(checkpoint):
    local = load_policy(
        from_values(VlaNodeParameters, {"model.path": str(checkpoint), "model.threads": 1})
    )
    with serving_policy(local) as server:
        remote = load_policy(from_values(VlaNodeParameters, {"model.path": server.uri}))
        for name in ("views", "image_size", "proprio_size", "rate_hz", "instructions", "robot"):
            assert getattr(remote, name) == getattr(local, name), name
        for shade in range(0, 250, 50):
            seen = observation(shade, INSTRUCTIONS[shade % 2])
            ours, theirs = remote.decoder.infer(seen), local.decoder.infer(seen)
            assert ours.tokens == theirs.tokens and (ours.action == theirs.action).all()
            assert ours.timings_ms["total"] >= ours.timings_ms["prefill"] > 0.0
            assert remote.plain.infer(seen).tokens == theirs.tokens
        with pytest.raises(UnknownInstructionError, match="fly"):
            remote.decoder.infer(observation(instruction="fly"))
        assert remote.decoder.infer(seen).tokens == theirs.tokens  # one bad question is not the end
        remote.close()


def test_heisd_decides_behind_a_server_as_at_home():
    """Retrieval, drafter and the metric that chooses between them, with the shipped model."""
    settings = {"decoding.mode": "heisd", "model.threads": 1}
    local, behind = (load_policy(from_values(VlaNodeParameters, settings)) for _ in range(2))
    with serving_policy(behind, mode="heisd") as server:
        settings["model.path"] = server.uri
        remote = load_policy(from_values(VlaNodeParameters, settings))
        assert remote.bounds == local.bounds and remote.robot == local.robot == "panda"
        sources = set()
        for step in range(12):
            seen = observation(20 * (step // 2), local.instructions[0], side=64)
            seen = replace(seen, motion=replace(METRIC, value=step / 12))
            ours, theirs = remote.decoder.infer(seen), local.decoder.infer(seen)
            assert (ours.tokens, ours.source, ours.reason) == (
                theirs.tokens,
                theirs.source,
                theirs.reason,
            )
            assert (remote.decoder.settle() is None) == (local.decoder.settle() is None)
            sources.add(ours.source)
        assert len(sources) > 1
        remote.close()


def test_everything_of_a_step_comes_through(dial):
    counting = Counting()
    bounds = MetricBounds(MetricSettings(), (0.0, 1.0), (0.0, 0.3), (0.0, 0.4), 0.25)
    layout = replace(LAYOUT, bounds=bounds, robot="panda", instructions=INSTRUCTIONS)
    with serving(counting, layout) as server:
        decoder = dial(server.uri)
        seen = observation(motion=METRIC)
        result = decoder.infer(seen)
        assert decoder._link.layout == layout
        got = counting.observations[0]
        assert got.instruction == seen.instruction and got.motion == METRIC
        assert all((a == b).all() for a, b in zip(got.images, seen.images, strict=True))
        assert (got.proprio == seen.proprio).all() and got.proprio.dtype == np.float32
        assert result.action.tolist() == [1.0] * 7 and result.tokens == (5,) * 7
        assert (result.reason, result.passes, result.accepted) == ("counted", 2, 3)
        assert result.similarity == 0.5 and decoder.warning() == "counting only"


def test_what_a_served_model_says_comes_through_as_one_line(dial):
    counting = Counting()
    counting.source, counting.reasoning = Source.KEPT, "move\x00 down\n" + "x" * 5000
    with serving(counting) as server:
        result = dial(server.uri).infer(replace(observation(), after_hold=True))
        assert result.source == "kept" and counting.observations[0].after_hold
        assert result.reasoning == "move down " + "x" * 1987 + "..."


def test_an_episode_ends_on_the_server_too(dial):
    counting = Counting()
    with serving(counting) as server:
        decoder = dial(server.uri)
        decoder.infer(observation())
        assert decoder.infer(observation()).action[0] == 2
        decoder.reset(True)
        assert decoder.infer(observation()).action[0] == 1
        assert counting.resets == [None, None, True]  # connected, began, ended


def test_a_step_that_was_not_looked_at_is_settled(dial):
    counting = Counting()
    counting.source, counting.outcome = Source.SKIP, Settled(4.0, False)
    with serving(counting) as server:
        decoder = dial(server.uri)
        decoder.infer(observation())
        assert decoder.settle() == Settled(4.0, False)
        assert decoder.settle() is None and counting.settled == 1


def test_an_answer_that_stands_for_no_action_says_so(dial):
    counting = Counting()
    counting.problem = "token 3 is none"
    with serving(counting) as server:
        result = dial(server.uri).infer(observation())
        assert result.problem == "token 3 is none" and np.isnan(result.action).all()


def test_what_a_question_lacks_is_named(dial):
    with serving(Counting()) as server:
        decoder = dial(server.uri)
        blank = observation()
        with pytest.raises(ImageError, match="observation/image"):
            decoder.infer(replace(blank, images=(np.zeros((4, 4), np.uint8), blank.images[1])))
        with pytest.raises(ProprioceptionError, match="state"):
            decoder.infer(replace(blank, proprio=None))
        assert decoder.infer(blank).action[0] == 1


class Chunks(Counting):
    """Answers with four actions."""

    def infer(self, observation):
        result = super().infer(observation)
        chunk = np.full((4, 7), float(self.count)) + np.arange(4)[:, None] / 10
        chunk[2, 3] = np.nan if self.count == 3 else 0.0
        return replace(result, action=chunk[0], chunk=chunk)


def test_a_chunk_comes_whole_and_the_layout_says_how_long_it_is():
    with serving(Chunks(), replace(LAYOUT, horizon=4)) as server:
        policy = load_policy(from_values(VlaNodeParameters, {"model.path": server.uri}))
        assert policy.horizon == 4
        result = policy.decoder.infer(observation())
        assert result.actions.shape == (4, 7)
        np.testing.assert_array_equal(result.actions[:, 0], [1.0, 1.1, 1.2, 1.3])
        policy.close()


def test_openpis_client_gets_no_chunk_with_a_number_that_is_none():
    with serving(Chunks()) as server, connect(server.uri, proxy=None) as client:
        client.recv()
        seen = {key: observation().images[0] for key in LAYOUT.views.values()}
        state = {LAYOUT.state: np.zeros(7, np.float32)}
        answers = []
        for _ in range(3):
            client.send(pack({**seen, **state, "prompt": INSTRUCTIONS[0]}))
            answers.append(client.recv())
    assert isinstance(answers[1], bytes) and "AnswerError: actions are" in answers[2]

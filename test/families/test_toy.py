"""A new family touches only its own folder, and every mode runs on it."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import support
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.database import description, write_small
from support.predictors import predictor
from support.tiny_parts import BOUNDS

from heisd_ros import families
from heisd_ros.control.policy import make_policy
from heisd_ros.decoding.answer_actions import padded
from heisd_ros.decoding.assembly import Assembly, build_decoder
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.hybrid import REDRAFT_ROOM, redraft
from heisd_ros.decoding.modes import load_mode, mode_names
from heisd_ros.decoding.tree import NO_DRAFT, DraftTree
from heisd_ros.decoding.types import Observation
from heisd_ros.decoding.verifier import Verification
from heisd_ros.errors import AnswerError, CheckpointError, DatabaseError, EngineError, ModeError
from heisd_ros.families.checkpoint import load_checkpoint
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.retrieval.entries import Entries, Matches
from heisd_ros.retrieval.projection import Projection
from heisd_ros.retrieval.writer import write_database
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.vla.checkpoint_files import fingerprint
from heisd_ros.vla.drafter import Drafter

families.__path__.append(str(Path(support.__path__[0]) / "families"))

from heisd_ros.families.toy.codec import FIRST, STOP, ToyCodec  # noqa: E402
from heisd_ros.families.toy.model import ToyModel, random_network, save_toy  # noqa: E402

CODEC = ToyCodec()
NUMBERS = st.integers(-4, 4).map(lambda n: n / 4)
CHUNKS = st.lists(NUMBERS, min_size=12, max_size=12).map(lambda n: np.reshape(n, (4, 3)))


def observation(seed=0, value=0.9):
    picture = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    motion = MetricSample(value, 0.1, 0.1, 0.1, "paper", True, "velocity")
    return Observation((picture,), "pick up the bowl", None, motion)


@functools.lru_cache
def plain(seed):
    """A random model, and its own answer."""
    model = ToyModel(random_network(seed))
    return model, AutoregressiveDecoder(model).infer(observation()).tokens


def test_its_config_json_makes_a_folder_of_it(tmp_path):
    model = load_checkpoint(save_toy(tmp_path, seed=1), dtype=torch.float64)
    assert type(model).__name__ == "ToyModel"
    assert AutoregressiveDecoder(model).infer(observation()).tokens == plain(1)[1]


def test_a_model_type_that_no_family_knows_is_refused_with_those_known(tmp_path):
    save_toy(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(CheckpointError, match=r"model_type is 'gpt2'; known are openvla, .*toy"):
        load_checkpoint(tmp_path)


@given(CHUNKS)
def test_chunks_come_back(chunk):
    tokens = CODEC.encode(chunk)
    assert CODEC.finished(tokens) and not CODEC.finished(tokens[:-1])
    np.testing.assert_array_equal(CODEC.decode(tokens), chunk)


@torch.inference_mode()
def test_the_plain_loop_stops_where_the_network_does():
    lengths = set()
    for seed in range(12):
        model, tokens = plain(seed)
        inputs = model.encode(observation().images, observation().instruction)
        state = torch.zeros(1, 16, dtype=model.dtype)
        for column in model.prompt(inputs, model.features(inputs)).columns[0]:
            state = model.network.cell(column[None], state)
        for token in tokens:
            assert model.network.head(state).argmax() == token
            state = model.network.cell(model.network.embedding.weight[token][None], state)
        assert STOP not in tokens[:-1]
        assert tokens[-1] == STOP or len(tokens) == CODEC.max_tokens
        lengths.add(len(tokens))
    assert len(lengths) > 3


@st.composite
def trees(draw, tokens):
    """Drafts that agree with the model now and then, with stop ids and ids that are no action."""
    chain = [st.one_of(st.just(token), st.integers(FIRST - 1, STOP)) for token in tokens]
    size = st.integers(0, len(chain))
    chains = draw(st.lists(st.tuples(st.tuples(*chain), size), max_size=5))
    extra = draw(st.lists(st.integers(FIRST, STOP), max_size=3))
    return DraftTree.from_chains([(*chain[:end], *extra) for chain, end in chains])


@settings(max_examples=150)
@given(data=st.data(), seed=st.integers(0, 11))
@torch.inference_mode()
def test_exact_verification_gives_the_tokens_of_the_plain_loop(data, seed):
    model, tokens = plain(seed)
    tree = data.draw(trees(tokens))
    how = data.draw(st.sampled_from(["tails", "redraft", "fresh", "finish"]))
    rule = data.draw(st.sampled_from(["exact", "token_relaxed", "sequence_relaxed"]))
    correct, record = data.draw(st.booleans()), data.draw(st.booleans())
    inputs = model.encode(observation().images, observation().instruction)
    prompt = model.prompt(inputs, model.features(inputs))
    verification = Verification.start(
        model.engine, prompt, tree, rule, data.draw(st.integers(0, REDRAFT_ROOM)), correct, record
    )
    if how == "finish":
        verification.finish()
    while not verification.finished:
        later = NO_DRAFT
        if how == "tails":
            later = tree.tails(len(verification.tokens))
        elif how == "redraft":
            later = redraft(verification, tree, rule)
        elif how == "fresh":
            later = data.draw(trees(tokens[len(verification.tokens) :]))
        verification.advance(later, rule)
    # No two ids have a distance, so that every rule is the exact one.
    assert tuple(verification.tokens) == tokens
    assert not record or tuple(verification.own) == tokens


def test_a_draft_that_is_the_answer_takes_one_pass():
    model, tokens = plain(4)
    assert len(tokens) > 2
    inputs = model.encode(observation().images, observation().instruction)
    prompt = model.prompt(inputs, model.features(inputs))
    tree = DraftTree.from_chains([(*tokens, FIRST, FIRST)])
    with torch.inference_mode():
        verification = Verification.start(model.engine, prompt, tree, "exact")
    assert (tuple(verification.tokens), verification.passes) == (tokens, 1)


class Shard:
    """Gives the same entries to every key."""

    instruction, grown = "pick up the bowl", False

    def __init__(self, answers, chunks):
        count = len(answers)
        self._matches = Matches(
            similarity=np.full(count, 0.99, np.float32),
            actions=np.reshape(chunks, (count, -1)).astype(np.float32),
            tokens=padded(answers, CODEC.max_tokens),
            episodes=np.zeros(count, np.int64),
            steps=np.arange(count),
            **{name: np.zeros((count, 1)) for name in KEPT},
        )

    def search(self, key, k):
        return self._matches

    def clearance(self, matches):
        return np.inf

    def shard_for(self, instruction):
        return self, "exact"

    def bounds(self, kind):
        return BOUNDS["speed" if kind == "speed" else "paper"]


KEPT = set(Matches.__dataclass_fields__) & {"lookahead", "margins", "positions"}
UNSEEN = {"retrieval_only", "heisd_release"}  # execute what is retrieved whatever it is


def test_a_mode_of_another_engine_is_refused():
    with pytest.raises(EngineError, match="the toy family has one of its own"):
        build_decoder(plain(0)[0], load_mode("ar_compiled"))


REASONING = {name for name in mode_names() if load_mode(name).reasoning.keep != "never"}


@pytest.mark.parametrize("name", sorted(REASONING))
def test_a_mode_that_keeps_reasonings_is_refused(name, tmp_path):
    folder = save_toy(tmp_path)
    with pytest.raises(ModeError, match=r"reasoning.keep is .* hold no reasoning"):
        Assembly(folder).decoder(plain(0)[0], load_mode(name))


@pytest.mark.parametrize("name", sorted(set(mode_names()) - REASONING))
def test_every_mode_runs(name):
    mode = load_mode(name)
    chunks = np.random.default_rng(0).integers(-4, 5, (3, 4, 3)) / 4
    for seed in range(4):
        model, tokens = plain(seed)
        torch.manual_seed(seed)
        decoder = build_decoder(
            model,
            mode,
            database=Shard([tokens, tokens[:1], CODEC.encode(chunks[0])], chunks),
            drafter=Drafter.of(model).to(model.dtype),
            predictor=predictor() if mode.predicted else None,
        )
        for value in (0.9, 0.1, 0.9):  # retrieval's zone, the drafter's, and back
            result = decoder.infer(observation(value=value))
            decoder.settle()
            if result.source == "skip":
                assert name in UNSEEN
            else:
                assert result.tokens == tokens
    if name == "retrieval_only":
        assert result.source == "skip" and not result.problem
        np.testing.assert_array_equal(result.chunk, chunks[0])
        np.testing.assert_array_equal(result.action, chunks[0, 0])


def test_a_database_of_other_answers_is_refused(tmp_path):
    folder = save_toy(tmp_path)
    write_small(folder / "database", model=fingerprint(folder))
    with pytest.raises(DatabaseError, match="answers of this model have up to 13 and 12"):
        Assembly(folder).decoder(plain(0)[0], load_mode("rsd"))


def test_a_database_of_its_own_answers_drafts_them(tmp_path):
    folder = save_toy(tmp_path)
    model, tokens = plain(0)
    seen = model.features(model.encode(observation().images, observation().instruction))
    key = model.retrieval_key(seen)
    keys = np.stack([key, -key]).astype(np.float32)
    stored = Entries(
        keys=keys,
        actions=np.zeros((2, 12)),
        tokens=padded([tokens, tokens[:1]], len(tokens)),
        episodes=np.zeros(2, np.int64),
        steps=np.arange(2),
    )
    mode = load_mode("heisd_exact")
    mode = replace(mode, retrieval=replace(mode.retrieval, k=1))
    shards, size = {"pick up the bowl": stored}, len(key)
    whole = Projection(np.zeros(size, np.float32), np.eye(size, dtype=np.float32))
    about = description(size, model=fingerprint(folder), bounds=BOUNDS)
    write_database(folder / "database", about, shards, whole)
    result = Assembly(folder).decoder(model, mode).infer(observation())
    assert result.tokens == tokens and result.passes == 1


def test_an_answer_that_stands_for_no_chunk_is_no_action():
    model, tokens = plain(0)
    with pytest.raises(AnswerError):
        CODEC.decode(tokens)
    result = AutoregressiveDecoder(model).infer(observation())
    assert np.isnan(result.action).all() and result.chunk.shape == (4, 3)
    assert "12 and a stop" in result.problem


def test_the_node_refuses_what_it_does_not_execute(tmp_path):
    folder = save_toy(tmp_path)
    with pytest.raises(CheckpointError, match="an action is 3 numbers; accepted: 7, a step of"):
        make_policy(from_values(VlaNodeParameters, {"model.path": str(folder)}), plain(0)[0])

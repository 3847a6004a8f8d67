"""Training a drafter: it learns, resumes, and reports its acceptance."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import support
import torch
from support.small_models import CONFIG, small_vla
from support.training import assert_same_state

from heisd_ros import families
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import CheckpointError
from heisd_ros.training.distillation import TeacherFrames, aligned, run_teacher
from heisd_ros.training.train_drafter import DistillationSettings, DrafterTrainer
from heisd_ros.vla.drafter import load_drafter

families.__path__.append(str(Path(support.__path__[0]) / "families"))

from heisd_ros.families.toy.model import ToyModel, random_network  # noqa: E402

MODEL = "a" * 64
SHORT = DistillationSettings(steps=20, batch_size=4, warmup_steps=2)
PADDING = 3


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def vla():
    """A random model that answers with actions alone."""
    vla = small_vla(dataclasses.replace(CONFIG, instructions=None))
    rows, head = vla.model.action_rows, vla.model.language_model.lm_head.weight
    head[: rows.start] = head[rows.stop :] = 0.0
    return vla


def frames_of(vla, padding):
    """12 frames, the last 4 held out; every second has a prompt that is so much shorter."""
    rng, blocks = np.random.default_rng(0), []
    for row in range(12):
        shades = rng.integers(0, 256, (len(vla.spec.views), 1, 1, 3), dtype=np.uint8)
        images = tuple(np.broadcast_to(shades, (len(shades), 8, 8, 3)))
        words = " ".join(["go"] * (6 - padding * (row % 2)))
        state = rng.normal(size=vla.spec.proprio_size) if vla.spec.proprio_size else None
        blocks.append(run_teacher(vla, Observation(images, words, state)))
    held_out = torch.arange(12) >= 8
    return TeacherFrames(**aligned(blocks, torch.stack), held_out=held_out, episodes=(2, 1))


@pytest.fixture(scope="module")
def frames(vla):
    """Frames of a model whose answers have 7 tokens."""
    return frames_of(vla, PADDING)


def trainer_of(frames, vla, folder, settings=SHORT, model=MODEL):
    return DrafterTrainer(frames, vla, model, folder, settings)


def test_it_learns_what_the_vla_would_say(frames, vla, tmp_path):
    """All frames are learnt and measured alike: enough steps learn them by heart."""
    known = dataclasses.replace(frames, held_out=torch.zeros(12, dtype=torch.bool))
    settings = DistillationSettings(steps=100, batch_size=12, warmup_steps=5, learning_rate=5e-3)
    trainer = trainer_of(known, vla, tmp_path, settings)
    seen = []
    trainer.run(lambda *row: seen.append(row))
    assert seen == trainer.losses
    assert [row[0] for row in seen] == list(range(10, 101, 10))
    trainer.frames = dataclasses.replace(frames, held_out=torch.ones(12, dtype=torch.bool))
    measured = trainer.measure()
    assert measured["chain"].length > 5.0
    assert measured["tree"].length >= measured["chain"].length


@pytest.mark.parametrize("name", ["feature", "token", "greedy"])
def test_each_loss_alone_is_learnt(frames, vla, tmp_path, name):
    weights = dict.fromkeys(("feature_weight", "token_weight", "greedy_weight"), 0.0)
    settings = dataclasses.replace(SHORT, steps=60, batch_size=8, **weights | {f"{name}_weight": 1})
    trainer = trainer_of(frames, vla, tmp_path, settings)
    trainer.run(lambda *row: None)
    column = ("feature", "token", "greedy").index(name) + 1
    assert trainer.losses[-1][column] < 0.99 * trainer.losses[0][column]


@pytest.mark.parametrize("toy", [False, True])
def test_a_draft_is_guessed_in_training_as_in_use(frames, vla, tmp_path, toy):
    """Padded prompts side by side, against one prompt at a time behind the VLA's own tokens."""
    if toy:  # answers of 2 to 13 tokens, which the drafter reads from any of them on
        vla = ToyModel(random_network(22), dtype=torch.float32)
        frames = frames_of(vla, PADDING)
    trainer = trainer_of(frames, vla, tmp_path)
    drafter, answers = trainer.drafter, frames.answers
    starts = (torch.arange(12) % (answers - 1 - trainer.depth).clamp(min=0).add(1)).long()
    assert bool(starts.any()) is toy
    columns = frames.embeds.shape[1]
    with torch.inference_mode():
        guesses = trainer.guess(torch.arange(12), starts)
        for row, length in enumerate(frames.lengths.tolist()):
            own, at = slice(columns - length, columns), int(starts[row])
            answer = frames.tokens[row, : answers[row]].tolist()
            hidden = frames.hidden[row : row + 1].float()
            state = drafter.start(
                hidden[:, own], frames.embeds[row : row + 1, own].float(), answer[0]
            )
            read = hidden[0, columns : columns + at]
            state = drafter.follow(vla, state, read, answer[1 : at + 1])
            hidden, cache = state.hidden, state.cache.fork()
            for step, token in enumerate(answer[at:-1][: trainer.depth]):
                hidden = drafter.advance(
                    hidden,
                    vla.embed_tokens(torch.tensor([[token]])),
                    torch.tensor([[state.position + step]]),
                    cache,
                )
                torch.testing.assert_close(guesses[row, step], hidden[0, 0], rtol=0, atol=1e-4)


def test_answers_of_any_length_are_learnt(tmp_path):
    vla = ToyModel(random_network(22), dtype=torch.float32)
    frames = frames_of(vla, PADDING)
    settings = DistillationSettings(steps=60, batch_size=12, warmup_steps=5, learning_rate=5e-3)
    trainer = trainer_of(frames, vla, tmp_path, settings)
    trainer.run(lambda *row: None)
    assert trainer.losses[-1][3] < 0.5 * trainer.losses[0][3]
    assert trainer.measure()["chain"].frames == 4


def test_gradients_reach_every_parameter(frames, vla, tmp_path):
    trainer = trainer_of(frames, vla, tmp_path)
    trainer.guess(torch.arange(4), torch.zeros(4, dtype=torch.long))[
        :, -1
    ].square().sum().backward()
    parameters = dict(trainer.drafter.named_parameters())
    assert [n for n, p in parameters.items() if p.grad is None or not p.grad.any()] == []


def test_the_vla_stays_as_it_is(frames, vla, tmp_path):
    before = {name: t.clone() for name, t in vla.model.state_dict().items()}
    trainer_of(frames, vla, tmp_path).run(lambda *row: None)
    assert all(torch.equal(t, before[name]) for name, t in vla.model.state_dict().items())


def test_nothing_is_learnt_from_held_out_frames(frames, vla, tmp_path):
    poisoned = frames.hidden.clone()
    poisoned[frames.held_out] = float("nan")
    trainer = trainer_of(dataclasses.replace(frames, hidden=poisoned), vla, tmp_path)
    trainer.run(lambda *row: None)
    assert all(p.isfinite().all() for p in trainer.drafter.parameters())


def test_a_run_is_resumed(frames, vla, tmp_path):
    class Stop(Exception):
        pass

    def stop(step, *losses):
        raise Stop

    first = trainer_of(frames, vla, tmp_path)
    with pytest.raises(Stop):
        first.run(stop)
    first.save()
    resumed = trainer_of(frames, vla, tmp_path)
    assert resumed.step == 10
    assert_same_state(first, resumed, ["drafter"])
    resumed.run(lambda *row: None)
    assert [row[0] for row in resumed.losses] == [10, 20]
    assert trainer_of(frames, vla, tmp_path).step == 20


def test_a_run_for_another_model_is_not_resumed(frames, vla, tmp_path):
    trainer_of(frames, vla, tmp_path).save()
    with pytest.raises(CheckpointError, match="of another run, which differs in model"):
        trainer_of(frames, vla, tmp_path, model="b" * 64)


def test_a_seed_decides_the_run(frames, vla, tmp_path):
    trainers = []
    for number, seed in enumerate((3, 3, 4)):
        settings = dataclasses.replace(SHORT, seed=seed)
        trainers.append(trainer_of(frames, vla, tmp_path / str(number), settings))
        trainers[-1].run(lambda *row: None)
    same, again, other = trainers
    assert_same_state(same, again, ["drafter"])
    assert same.losses != other.losses


def test_what_was_reached_stands_beside_the_drafter(frames, vla, tmp_path):
    trainer = trainer_of(frames, vla, tmp_path)
    trainer.run(lambda *row: None)
    measured = trainer.measure()
    assert {name: (r.frames, r.depth, r.top_k, r.nodes) for name, r in measured.items()} == {
        "chain": (4, 6, 1, 6),
        "tree": (4, 6, 8, 50),
    }
    record = json.loads((tmp_path / "drafter" / "drafter.json").read_text())
    assert record["model"] == MODEL
    assert record["acceptance"] == {name: result.to_dict() for name, result in measured.items()}
    assert record["training"] == {
        **dataclasses.asdict(SHORT),
        "done": 20,
        "frames": 8,
        "episodes": 2,
        "episodes_held_out": 1,
    }
    load_drafter(tmp_path / "drafter", MODEL, vla)


def test_a_limit_spreads_the_measured_frames(frames, vla, tmp_path):
    trainer = trainer_of(frames, vla, tmp_path)
    trainer.save()
    assert trainer.measure(limit=3)["chain"].frames == 2
    assert trainer.measure(limit=4)["chain"].frames == 4


def test_a_token_that_is_no_action_can_be_learnt_from(frames, vla, tmp_path):
    odd = frames.tokens.clone()
    odd[:, 2:4] = torch.tensor([5, CONFIG.language.vocab_size - 1])
    trainer = trainer_of(dataclasses.replace(frames, tokens=odd), vla, tmp_path)
    trainer.run(lambda *row: None)
    assert all(p.isfinite().all() for p in trainer.drafter.parameters())


@pytest.mark.parametrize("name", ["steps", "batch_size", "warmup_steps", "seed"])
@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_settings_refuse_what_is_no_count(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*; accepted: "):
        DistillationSettings(**{name: value})


@pytest.mark.parametrize(
    "name", ["learning_rate", "weight_decay", "feature_weight", "token_weight", "greedy_weight"]
)
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_settings_refuse_weights_that_are_not_finite_or_negative(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*; accepted: "):
        DistillationSettings(**{name: value})

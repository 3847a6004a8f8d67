"""Training a drafter: it learns, resumes, and reports its acceptance."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from support.small_models import CONFIG, small_vla

from heisd_ros.errors import CheckpointError
from heisd_ros.families.openvla.network import OpenVLAInputs
from heisd_ros.training.distillation import TeacherFrames, run_teacher
from heisd_ros.training.train_drafter import DRAFTED, DistillationSettings, DrafterTrainer
from heisd_ros.vla.drafter import load_drafter

MODEL = "a" * 64
SHORT = DistillationSettings(steps=20, batch_size=4, warmup_steps=2)
PADDING = 3


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def vla():
    """A random model that answers with actions alone."""
    vla = small_vla()
    rows, head = vla.model.action_rows, vla.model.language_model.lm_head.weight
    head[: rows.start] = head[rows.stop :] = 0.0
    return vla


@pytest.fixture(scope="module")
def frames(vla):
    """12 frames, the last 4 held out; every second has a shorter prompt, so that it is padded."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for row in range(12):
        ids = torch.randint(3, 270, (1, 6 - PADDING * (row % 2)), generator=generator)
        pixels = torch.randn(1, 2, 6, 32, 32, generator=generator)
        inputs = OpenVLAInputs(pixels, ids, torch.randn(1, 3, generator=generator))
        hidden, embeds, tokens = run_teacher(vla.model, inputs)
        pad = (0, 0, PADDING * (row % 2), 0)
        parts.append((*(torch.nn.functional.pad(t, pad) for t in (hidden, embeds)), tokens))
    hidden, embeds, tokens = (torch.cat(part) for part in zip(*parts, strict=True))
    columns = 6 + CONFIG.prefix_tokens
    return TeacherFrames(
        hidden=hidden.half(),
        embeds=embeds.half(),
        tokens=tokens,
        lengths=torch.tensor([columns, columns - PADDING] * 6),
        held_out=torch.arange(12) >= 8,
        episodes=(2, 1),
    )


def trainer_of(frames, vla, folder, settings=SHORT, model=MODEL):
    return DrafterTrainer(frames, vla, model, folder, settings)


def tensors(trainer):
    """Everything that decides how a run goes on, as one flat mapping."""
    state = {f"drafter.{k}": v for k, v in trainer.drafter.state_dict().items()}
    for number, moments in trainer.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{number}.{k}": v for k, v in moments.items()}
    return state


def assert_same_state(left, right):
    a, b = tensors(left), tensors(right)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert left.schedule.get_last_lr() == right.schedule.get_last_lr()
    assert (left.step, left.losses) == (right.step, right.losses)


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
    settings = dataclasses.replace(SHORT, steps=40, batch_size=8, **weights | {f"{name}_weight": 1})
    trainer = trainer_of(frames, vla, tmp_path, settings)
    trainer.run(lambda *row: None)
    column = ("feature", "token", "greedy").index(name) + 1
    assert trainer.losses[-1][column] < 0.98 * trainer.losses[0][column]


def test_a_draft_is_guessed_in_training_as_in_use(frames, vla, tmp_path):
    """Padded prompts side by side, against one prompt at a time behind the VLA's own tokens."""
    trainer = trainer_of(frames, vla, tmp_path)
    drafter, language = trainer.drafter, vla.model.language_model
    columns = frames.embeds.shape[1]
    with torch.inference_mode():
        guesses = trainer.guess(torch.arange(12))
        for row, length in enumerate(frames.lengths.tolist()):
            own = slice(columns - length, columns)
            state = drafter.start(
                frames.hidden[row : row + 1, own].float(),
                frames.embeds[row : row + 1, own].float(),
                int(frames.tokens[row, 0]),
            )
            hidden, cache = state.hidden, state.cache.fork()
            for step in range(DRAFTED):
                hidden = drafter.advance(
                    hidden,
                    language.model.embed_tokens(frames.tokens[row : row + 1, step : step + 1]),
                    torch.tensor([[state.position + step]]),
                    cache,
                )
                torch.testing.assert_close(guesses[row, step], hidden[0, 0], rtol=0, atol=1e-4)


def test_gradients_reach_every_parameter(frames, vla, tmp_path):
    trainer = trainer_of(frames, vla, tmp_path)
    trainer.guess(torch.arange(4))[:, -1].square().sum().backward()
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
    assert_same_state(first, resumed)
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
    assert_same_state(same, again)
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
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least"):
        DistillationSettings(**{name: value})


@pytest.mark.parametrize(
    "name", ["learning_rate", "weight_decay", "feature_weight", "token_weight", "greedy_weight"]
)
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_settings_refuse_weights_that_are_not_finite_or_negative(name, value):
    with pytest.raises(ValueError, match=f"{name} must be finite and at least 0"):
        DistillationSettings(**{name: value})

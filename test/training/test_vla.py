"""Training at its real size on a few samples: it learns, resumes, and what it saves decodes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from support.episodes import samples

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import Observation
from heisd_ros.training.vla import STATISTICS_KEY, Trainer, TrainingSettings, small_config
from heisd_ros.vla.checkpoint import load_checkpoint

SAMPLES = samples(2)
SHORT = TrainingSettings(steps=10, batch_size=2, warmup_steps=2)


class Interrupted(Exception):
    pass


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tensors(trainer):
    """Everything that decides how a run goes on, as one flat mapping."""
    state = {f"model.{k}": v for k, v in trainer.model.state_dict().items()}
    state |= {f"average.{k}": v for k, v in trainer.average.module.state_dict().items()}
    state |= {f"head.{k}": v for k, v in trainer.head.state_dict().items()}
    for number, moments in trainer.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{number}.{k}": v for k, v in moments.items()}
    return state


def assert_same_state(left, right):
    a, b = tensors(left), tensors(right)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert left.schedule.get_last_lr() == right.schedule.get_last_lr()
    assert (left.step, left.losses) == (right.step, right.losses)


def observation_of(all_samples, number):
    return Observation(
        images=tuple(all_samples.images[number].numpy()),
        instruction=all_samples.instructions[int(all_samples.instruction[number])],
        proprio=all_samples.proprio[number].numpy(),
    )


def test_learns_its_samples_and_the_checkpoint_acts_as_it_learnt(tmp_path):
    settings = TrainingSettings(
        steps=60, batch_size=2, warmup_steps=5, soft_bins=0.5, average=0.0, proprio_noise=0.0
    )
    trainer = Trainer(SAMPLES, tmp_path, settings)
    seen = []
    trainer.run(lambda *row: seen.append(row))
    assert (
        seen
        == trainer.losses
        == [tuple(row) for row in json.loads((tmp_path / "losses.json").read_text())]
    )
    assert [row[0] for row in seen] == [10, 20, 30, 40, 50, 60]
    assert seen[-1][1] < 0.7 * seen[0][1]
    assert seen[-1][2] < 0.5 * seen[0][2]

    vla = load_checkpoint(tmp_path / "checkpoint")
    assert vla.statistics_key == STATISTICS_KEY
    assert vla.config.instructions == SAMPLES.instructions
    decoder = AutoregressiveDecoder(vla)
    for number in range(len(SAMPLES)):
        result = decoder.infer(observation_of(SAMPLES, number))
        np.testing.assert_allclose(result.action, SAMPLES.actions[number], atol=0.15)


def test_an_interrupted_run_resumes_exactly_where_it_was_saved(tmp_path):
    stopped = Trainer(SAMPLES, tmp_path, dataclasses.replace(SHORT, steps=20))

    def stop(step, action_loss, landmark_loss):
        stopped.save()
        raise Interrupted

    with pytest.raises(Interrupted):
        stopped.run(stop)
    resumed = Trainer(SAMPLES, tmp_path, stopped.settings)
    assert resumed.step == 10
    assert_same_state(resumed, stopped)
    resumed.run(lambda *row: None)
    assert [row[0] for row in resumed.losses] == [10, 20]


def test_a_finished_run_has_nothing_left_to_do_and_more_samples_keep_its_actions(tmp_path):
    Trainer(SAMPLES, tmp_path, SHORT).run(lambda *row: None)
    more = samples(5, seed=1)
    resumed = Trainer(more, tmp_path, SHORT)
    before = {name: tensor.clone() for name, tensor in tensors(resumed).items()}
    resumed.run(lambda *row: pytest.fail("no step is left"))
    assert all(torch.equal(before[name], tensor) for name, tensor in tensors(resumed).items())
    # What the action tokens mean was fixed by the samples that the run began with.
    first = Trainer(SAMPLES, tmp_path / "other", SHORT)
    assert resumed.statistics.to_dict() == first.statistics.to_dict()


def test_a_seed_decides_the_run(tmp_path):
    settings = [dataclasses.replace(SHORT, seed=seed) for seed in (3, 3, 4)]
    same, again, other = (Trainer(SAMPLES, tmp_path / str(i), s) for i, s in enumerate(settings))
    assert_same_state(same, again)
    assert any(not torch.equal(a, b) for a, b in zip(*map(_weights, (same, other)), strict=True))


def _weights(trainer):
    return trainer.model.state_dict().values()


def test_samples_without_landmarks_train_on_actions_alone(tmp_path):
    blind = dataclasses.replace(SAMPLES, landmarks=torch.full((2, 6), float("nan")))
    trainer = Trainer(blind, tmp_path, SHORT)
    trainer.run(lambda *row: None)
    (_, action_loss, landmark_loss), *_ = trainer.losses
    assert np.isfinite(action_loss) and landmark_loss == 0.0
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_the_schedule_warms_up_then_falls(tmp_path):
    trainer = Trainer(SAMPLES, tmp_path, SHORT)
    rates = []
    for _ in range(SHORT.steps):
        rates.append(trainer.schedule.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.schedule.step()
    assert rates[0] == SHORT.learning_rate / 2
    assert max(rates) == SHORT.learning_rate
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert trainer.schedule.get_last_lr()[0] == pytest.approx(0.02 * SHORT.learning_rate)


@pytest.mark.parametrize("name", ["steps", "batch_size"])
@pytest.mark.parametrize("value", [0, -3])
def test_settings_refuse_what_is_no_count(name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
        TrainingSettings(**{name: value})


def test_the_model_that_ships_sees_few_visual_tokens():
    config = small_config(("pick up the bowl",), 1024)
    assert config.visual_tokens == 2 * (128 // 16 // 4) ** 2
    assert config.real_vocab_size == 1024
    assert config.pad_token_id == 1024

"""Training at full size on a few samples: it learns, resumes, and saves a working checkpoint."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from support.episodes import samples
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint
from support.training import assert_same_state, tensors

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import CheckpointError, UnknownInstructionError
from heisd_ros.families.checkpoint import preparation
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.families.openvla.training import STATISTICS_KEY, small_config
from heisd_ros.training.train_vla import Trainer
from heisd_ros.training.training_settings import TrainingSettings

SAMPLES = samples(2)
MODULES = ("model", "average.module", "head")
SHORT = TrainingSettings(steps=10, batch_size=2, warmup_steps=2)


class Interrupted(Exception):
    pass


pytestmark = pytest.mark.usefixtures("one_thread")


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

    def stop(*losses):
        stopped.save()
        raise Interrupted

    with pytest.raises(Interrupted):
        stopped.run(stop)
    resumed = Trainer(SAMPLES, tmp_path, stopped.settings)
    assert resumed.step == 10
    assert_same_state(resumed, stopped, MODULES)
    resumed.run(lambda *row: None)
    assert [row[0] for row in resumed.losses] == [10, 20]


def test_a_finished_run_has_nothing_left_to_do_and_more_samples_keep_its_actions(tmp_path):
    Trainer(SAMPLES, tmp_path, SHORT).run(lambda *row: None)
    more = samples(5, seed=1)
    resumed = Trainer(more, tmp_path, SHORT)
    before = {name: tensor.clone() for name, tensor in tensors(resumed, MODULES).items()}
    resumed.run(lambda *row: pytest.fail("no step is left"))
    assert all(
        torch.equal(before[name], tensor) for name, tensor in tensors(resumed, MODULES).items()
    )
    # What the action tokens mean was fixed by the samples that the run began with.
    first = Trainer(SAMPLES, tmp_path / "other", SHORT)
    assert resumed.subject.statistics.to_dict() == first.subject.statistics.to_dict()


def test_a_seed_decides_the_run(tmp_path):
    settings = [dataclasses.replace(SHORT, seed=seed) for seed in (3, 3, 4)]
    same, again, other = (Trainer(SAMPLES, tmp_path / str(i), s) for i, s in enumerate(settings))
    assert_same_state(same, again, MODULES)
    assert any(not torch.equal(a, b) for a, b in zip(*map(_weights, (same, other)), strict=True))


def _weights(trainer):
    return trainer.model.state_dict().values()


def test_samples_are_drawn_by_their_weights(tmp_path):
    """With all the weight on one sample, the run is the one of that sample alone."""
    weights = torch.zeros(len(SAMPLES))
    weights[0] = 2.0
    trainer = Trainer(dataclasses.replace(SAMPLES, weights=weights), tmp_path, SHORT)
    drawn = []
    trainer._losses = lambda index, losses=trainer._losses: drawn.append(index) or losses(index)
    trainer._train_step()
    assert drawn[0].tolist() == [0] * SHORT.batch_size


def test_samples_without_landmarks_train_on_actions_alone(tmp_path):
    blind = dataclasses.replace(SAMPLES, landmarks=torch.full((2, 6), float("nan")))
    trainer = Trainer(blind, tmp_path, SHORT)
    trainer.run(lambda *row: None)
    (_, action_loss, landmark_loss, _), *_ = trainer.losses
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


def test_statistics_are_values_like_those_of_a_checkpoint(tmp_path):
    trainer = Trainer(SAMPLES, tmp_path, SHORT)
    trainer.save()
    loaded = load_checkpoint(tmp_path / "checkpoint").statistics[STATISTICS_KEY]
    assert trainer.subject.statistics == loaded
    assert hash(trainer.subject.statistics) == hash(loaded)


TINY = dataclasses.replace(SAMPLES, images=SAMPLES.images[:, :, :32, :32].contiguous())
"""Samples for the tiny checkpoint."""


@pytest.fixture
def start(tmp_path):
    return load_checkpoint(save_tiny_checkpoint(tmp_path / "start"))


def test_a_run_goes_on_from_the_weights_tokens_and_scale_of_a_checkpoint(tmp_path, start):
    before = {name: tensor.clone() for name, tensor in start.model.state_dict().items()}
    trainer = Trainer(TINY, tmp_path / "run", SHORT, start)
    assert all(torch.equal(before[k], v) for k, v in trainer.model.state_dict().items())
    assert trainer.subject.statistics == start.statistics["test"]
    trainer.run(lambda *row: None)
    # A loaded checkpoint is frozen: it must not stay so.
    same = [k for k, v in trainer.model.state_dict().items() if torch.equal(before[k], v)]
    assert set(same) <= {name for name, _ in trainer.model.named_buffers()}

    trained = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert trained.statistics == {STATISTICS_KEY: start.statistics["test"]}
    assert trained.config == start.config
    for text in INSTRUCTIONS:
        assert trained.prompts.encode(text) == start.prompts.encode(text)
    assert AutoregressiveDecoder(trained).infer(observation_of(TINY, 0)).passes == 7


def test_a_checkpoint_that_goes_on_lowers_its_loss(tmp_path, start):
    settings = dataclasses.replace(SHORT, steps=60, learning_rate=3e-3)
    trainer = Trainer(TINY, tmp_path / "run", settings, start)
    trainer.run(lambda *row: None)
    assert trainer.losses[-1][1] < trainer.losses[0][1]


def test_a_resumed_run_goes_on_from_its_own_state_not_from_the_checkpoint(tmp_path, start):
    Trainer(TINY, tmp_path / "run", SHORT, start).run(lambda *row: None)
    longer = dataclasses.replace(SHORT, steps=20)
    fresh = load_checkpoint(tmp_path / "start")
    resumed = Trainer(TINY, tmp_path / "run", longer, fresh)
    assert resumed.step == 10
    trained = torch.load(tmp_path / "run" / "trainer.pt", weights_only=True)["model"]
    assert all(torch.equal(trained[k], v) for k, v in resumed.model.state_dict().items())


def test_a_checkpoint_learns_instructions_that_it_did_not_know(tmp_path):
    folder = save_tiny_checkpoint(tmp_path / "start", instructions=INSTRUCTIONS[:1])
    start = load_checkpoint(folder)
    with pytest.raises(UnknownInstructionError, match="open the drawer"):
        start.prompts.encode("open the drawer")
    before = {name: tensor.clone() for name, tensor in start.model.state_dict().items()}
    trainer = Trainer(TINY, tmp_path / "run", SHORT, start)
    assert all(torch.equal(before[k], v) for k, v in trainer.model.state_dict().items())
    trainer.run(lambda *row: None)

    trained = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert trained.config.instructions == (*INSTRUCTIONS[:1], "open the drawer")
    assert trained.prompts.tokenizer.to_str() == start.prompts.tokenizer.to_str()
    assert trained.prompts.encode(INSTRUCTIONS[0]) == start.prompts.encode(INSTRUCTIONS[0])
    ids = trained.prompts.encode("Open the drawer.")
    assert "open the drawer" in start.prompts.tokenizer.decode(ids)
    # A resumed run is told the same ones again.
    assert Trainer(TINY, tmp_path / "run", SHORT, load_checkpoint(folder)).step == SHORT.steps


def test_losses_travel_with_the_state(tmp_path, start):
    run = tmp_path / "run"
    trainer = Trainer(TINY, run, SHORT, start)
    trainer.run(lambda *row: None)
    (run / "losses.json").unlink()
    assert Trainer(TINY, run, SHORT, start).losses == trainer.losses
    (run / "losses.json").write_text("[[10, 1.0")
    assert Trainer(TINY, run, SHORT, start).losses == trainer.losses


def test_the_state_of_another_network_is_refused(tmp_path, start):
    Trainer(SAMPLES, tmp_path / "run", SHORT).save()
    with pytest.raises(CheckpointError, match=r"trainer\.pt is of another run.*num_hidden_layers"):
        Trainer(TINY, tmp_path / "run", SHORT, start)


@pytest.mark.parametrize(
    "instructions", [("pick up the bowl",), ("open the drawer", "pick up the bowl")]
)
def test_the_state_of_other_instructions_or_another_order_is_refused(tmp_path, instructions):
    Trainer(SAMPLES, tmp_path, SHORT).save()
    other = dataclasses.replace(
        SAMPLES, instructions=instructions, instruction=torch.zeros(2, dtype=torch.long)
    )
    with pytest.raises(CheckpointError, match=r"differs in .*prompts; give a new folder"):
        Trainer(other, tmp_path, SHORT)


def test_the_inputs_of_a_new_model_are_known_before_its_instructions():
    inputs = preparation("openvla").inputs(None)
    assert (inputs.views, inputs.rate_hz) == (("agentview", "wrist"), 20.0)


def test_the_model_that_ships_sees_few_visual_tokens():
    config = small_config(("pick up the bowl",), 1024)
    assert config.visual_tokens == 2 * (128 // 16 // 4) ** 2
    assert config.real_vocab_size == 1024
    assert config.pad_token_id == 1024

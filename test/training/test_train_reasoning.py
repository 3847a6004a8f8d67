"""A model that acts learns to reason before: words, answers, loss, checkpoint."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.small_models import CONFIG, small_vla

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import CheckpointError
from heisd_ros.families.checkpoint import family_of, load_checkpoint, preparation
from heisd_ros.families.trainable import Corpus
from heisd_ros.training.dataset import Samples
from heisd_ros.training.train_vla import Trainer
from heisd_ros.training.training_settings import TrainingSettings

TEXTS = (
    "TASK: pick up the bowl PLAN: reach, grasp SUBTASK: reach the bowl GRIPPER POSITION: [4, 8]",
    "TASK: open it SUBTASK: withdraw MOVE REASONING: the task is done MOVE: up",
)
SAMPLES = Samples(
    images=torch.arange(2)[:, None, None, None, None].expand(2, 2, 32, 32, 3).to(torch.uint8) * 200,
    proprio=torch.tensor([[0.0, 1.0, 2.0], [2.0, -1.0, 0.0]]),
    actions=np.array([[0.5, -1.0, 0.0, 0.2, 0.1, 0.0, 1.0], [-0.5, 1.0, 0.3, 0.0, 0.1, 0.4, -1.0]]),
    instruction=torch.arange(2),
    landmarks=torch.full((2, 6), float("nan")),
    instructions=CONFIG.instructions or (),
    reasonings=np.array(TEXTS, dtype=object),
)
SETTINGS = TrainingSettings(
    steps=150, batch_size=4, warmup_steps=5, learning_rate=3e-3, average=0.0, soft_bins=0.5,
    proprio_noise=0.0, brightness=0.0,
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_says_and_does_what_it_was_taught(tmp_path):
    trainer = Trainer(SAMPLES, tmp_path, SETTINGS, small_vla(), "ecot")
    trainer.run(lambda *row: None)
    (_, *first), *_, (_, *last) = trainer.losses
    assert last[0] < 0.5 * first[0] and last[2] < 0.1 * first[2]
    assert family_of(tmp_path / "checkpoint") == "ecot"
    model = load_checkpoint(tmp_path / "checkpoint")
    decoder = AutoregressiveDecoder(model)
    for number, text in enumerate(TEXTS):
        images = tuple(SAMPLES.images[number].numpy())
        instruction, proprio = SAMPLES.instructions[number], SAMPLES.proprio[number].numpy()
        result = decoder.infer(Observation(images, instruction, proprio))
        assert f"TASK: {result.reasoning}".startswith(text)
        np.testing.assert_allclose(result.action, SAMPLES.actions[number], atol=0.1)


def test_an_answer_decodes_to_its_action_and_its_parts():
    samples = SAMPLES
    corpus = Corpus(samples.instructions, samples.proprio.numpy(), samples.actions, TEXTS)
    subject = preparation("ecot").prepare(corpus, small_vla(), 0)
    answer = subject.answer(samples.actions[:1], TEXTS[0])
    codec = subject.codec
    assert codec.finished(answer) and not any(
        codec.finished(answer[:n]) for n in range(len(answer))
    )
    np.testing.assert_allclose(codec.decode(answer)[0], samples.actions[0], atol=0.02)
    assert codec.parts(answer) == {
        "TASK": "pick up the bowl",
        "PLAN": "reach, grasp",
        "SUBTASK": "reach the bowl",
        "GRIPPER POSITION": "[4, 8]",
        "ACTION": "",
    }
    assert codec.kept(answer, "action") == tuple(answer[:-8])


def test_a_resumed_run_has_the_same_words(tmp_path):
    short = dataclasses.replace(SETTINGS, steps=10)
    run = tmp_path / "run"
    Trainer(SAMPLES, run, short, small_vla(), "ecot").run(lambda *row: None)
    resumed = Trainer(SAMPLES, run, short, small_vla(), "ecot")
    assert resumed.step == 10
    for others in ([TEXTS[0]] * 2, [TEXTS[0], TEXTS[1].replace("up", "sideways")]):
        other = dataclasses.replace(SAMPLES, reasonings=np.array(others, dtype=object))
        with pytest.raises(CheckpointError, match=r"differs in config.*hold others: go on .*`--st"):
            Trainer(other, run, short, small_vla(), "ecot")
    # What the message says to do: the same words, and the new one by letters.
    start = load_checkpoint(run / "checkpoint")
    further = Trainer(other, tmp_path / "further", short, start, "ecot")
    assert further.step == 0
    codec = further.subject.codec
    said = codec.parts(further.subject.answer(SAMPLES.actions[:1], others[1]))
    assert said["MOVE"] == "sideways"


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="hold no reasoning to learn"):
        Trainer(dataclasses.replace(SAMPLES, reasonings=None), tmp_path, SETTINGS, None, "ecot")
    with pytest.raises(CheckpointError, match="'nora' cannot be trained here; accepted: ecot"):
        Trainer(SAMPLES, tmp_path, SETTINGS, None, "nora")

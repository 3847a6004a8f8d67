"""A model that acts learns to answer by FAST chunks: tokens, loss, checkpoint, refusals."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct
from support.small_models import CONFIG, small_vla

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import AnswerError, CheckpointError
from heisd_ros.families.checkpoint import family_of, load_checkpoint, preparation, statistics_of
from heisd_ros.families.trainable import Corpus
from heisd_ros.training.dataset import Samples
from heisd_ros.training.train_vla import Trainer
from heisd_ros.training.training_settings import TrainingSettings

HORIZON = 4
PHASES = np.linspace(0, np.pi, HORIZON)[:, None] + np.arange(6)


def chunks(count):
    """Swings of the arm, during which the gripper switches."""
    pose = [(0.3 + 0.1 * n) * np.sin(PHASES + n) for n in range(count)]
    gripper = np.where(np.arange(HORIZON) < 2, -1.0, 1.0)[:, None]
    return np.stack([np.hstack([swing, (-1) ** n * gripper]) for n, swing in enumerate(pose)])


def samples(count=2):
    motion = chunks(2)[np.arange(count) % 2]
    shade = torch.arange(count)[:, None, None, None, None] * 200 // count
    return Samples(
        images=shade.expand(count, 2, 32, 32, 3).to(torch.uint8),
        proprio=torch.tensor([[0.0, 1.0, 2.0], [2.0, -1.0, 0.0]])[torch.arange(count) % 2],
        actions=(-1.0) ** np.arange(count)[:, None] * np.ones(7),  # their range is from -1 to 1
        instruction=torch.arange(count) % 2,
        landmarks=torch.full((count, 6), float("nan")),
        instructions=CONFIG.instructions or (),
        chunks=motion,
    )


SAMPLES = samples()
SETTINGS = TrainingSettings(
    steps=100, batch_size=4, warmup_steps=5, learning_rate=1e-2, average=0.0, proprio_noise=0.0,
    brightness=0.0,
)  # fmt: skip
SHORT = dataclasses.replace(SETTINGS, steps=10)


pytestmark = pytest.mark.usefixtures("one_thread")


def corpus():
    actions, motion = np.repeat(SAMPLES.actions, 100, axis=0), SAMPLES.chunks
    return Corpus(SAMPLES.instructions, SAMPLES.proprio.numpy(), actions, (), motion)


def test_it_does_what_it_was_taught(tmp_path):
    trainer = Trainer(SAMPLES, tmp_path, SETTINGS, small_vla(), "pi0fast")
    trainer.run(lambda *row: None)
    (_, first, *_), *_, (_, last, *_) = trainer.losses
    assert last < 0.1 * first
    folder = tmp_path / "checkpoint"
    assert family_of(folder) == "pi0fast" and statistics_of(folder) == ["libero_panda"]
    model = load_checkpoint(folder)
    assert (model.codec.horizon, model.codec.dimensions) == (HORIZON, 7)
    decoder = AutoregressiveDecoder(model)
    for number, chunk in enumerate(SAMPLES.chunks):
        images = tuple(SAMPLES.images[number].numpy())
        instruction, proprio = SAMPLES.instructions[number], SAMPLES.proprio[number].numpy()
        result = decoder.infer(Observation(images, instruction, proprio))
        # Half a step of each of 4 coefficients, and as much of their cosines as there is.
        assert (np.abs(result.chunk - chunk) <= 0.05 * np.sqrt(8) + 1e-6).all()
        np.testing.assert_array_equal(np.sign(result.chunk[:, 6]), chunk[:, 6])


def test_an_answer_ends_with_its_last_coefficient():
    subject = preparation("pi0fast").prepare(corpus(), small_vla(), 0)
    codec = subject.codec
    for chunk in SAMPLES.chunks:
        answer = subject.answer(chunk, "")
        assert set(answer) <= {*codec.action_ids}
        assert codec.finished(answer)
        assert not any(codec.finished(answer[:n]) for n in range(len(answer)))
        again = codec.decode(answer)
        assert codec.encode(again) == answer
        # What the last id brings beyond the last coefficient is no motion.
        np.testing.assert_array_equal(codec.decode((*answer, *answer[-2:])), again)
        with pytest.raises(AnswerError, match="28 are needed"):
            codec.decode(answer[:-1])
        with pytest.raises(AnswerError, match=r"the ids \[3\], which are no actions"):
            codec.decode([3, *answer])
    assert subject.network.answer is subject.vla.codec


def test_a_resumed_run_is_where_it_was_and_keeps_its_tokens(tmp_path):
    whole = Trainer(SAMPLES, tmp_path, SHORT, small_vla(), "pi0fast")
    whole.run(lambda *row: None)
    more = samples(5)  # of which another tokenizer would be made
    resumed = Trainer(more, tmp_path, SHORT, small_vla(), "pi0fast")
    assert (resumed.step, resumed.losses) == (10, whole.losses)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor)
    assert resumed.subject.scale() == whole.subject.scale()
    assert resumed.subject.answer(SAMPLES.chunks[0], "") == whole.subject.answer(
        SAMPLES.chunks[0], ""
    )
    fresh = Trainer(more, tmp_path / "other", SHORT, small_vla(), "pi0fast")
    assert fresh.subject.scale() != whole.subject.scale()


def test_a_trained_model_goes_on_with_fewer_layers(tmp_path):
    trained = preparation("pi0fast").prepare(corpus(), small_vla(), 0)
    trained.save(tmp_path, trained.network, torch.float32)
    start = load_checkpoint(tmp_path)
    again = preparation("pi0fast").prepare(corpus(), start, 3)
    assert again.vla.config.language.num_hidden_layers == 3
    assert again.scale() == trained.scale()
    assert preparation("pi0fast").inputs(start).horizon == HORIZON


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="without chunks of actions"):
        Trainer(dataclasses.replace(SAMPLES, chunks=None), tmp_path, SHORT, None, "pi0fast")
    trained = preparation("pi0fast").prepare(corpus(), small_vla(), 0)
    for family in ("openvla", "ecot"):
        texts = dataclasses.replace(SAMPLES, reasonings=np.array(["TASK: a"] * 2, dtype=object))
        with pytest.raises(CheckpointError, match="cannot start from a OwnFast"):
            Trainer(texts, tmp_path, SHORT, trained.vla, family)


@pytest.fixture(scope="module")
def codec():
    return preparation("pi0fast").prepare(corpus(), small_vla(), 0).codec


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10.0))
@settings(max_examples=30, deadline=None)
def test_every_chunk_can_be_written_whatever_was_seen(codec, seed, size):
    chunk = np.random.default_rng(seed).uniform(-size, size, (HORIZON, 7))
    chunk[:, 6] = np.sign(chunk[:, 6])
    answer = codec.encode(chunk)
    assert codec.finished(answer)
    error = codec.decode(answer) - np.clip(chunk, -1, 1)
    assert np.abs(dct(error, axis=0, norm="ortho")).max() <= 0.05 + 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [({"max_tokens": 9}, "has no max_tokens"), ({"horizon": 0}, "horizon is 0")],
)
def test_a_horizon_makes_it_a_chunk_model(tmp_path, change, message):
    subject = preparation("pi0fast").prepare(corpus(), small_vla(), 0)
    subject.save(tmp_path, subject.network, torch.float32)
    content = json.loads((tmp_path / "config.json").read_text())
    for changed, family in ((change, "pi0fast"), ({"horizon": None}, "openvla")):
        ours = {**content["heisd"], **changed}
        (tmp_path / "config.json").write_text(json.dumps({**content, "heisd": ours}))
        assert family_of(tmp_path) == family
        if family == "pi0fast":
            with pytest.raises(CheckpointError, match=message):
                load_checkpoint(tmp_path)


def test_a_lost_tokenizer_is_missed_by_name(tmp_path):
    subject = preparation("pi0fast").prepare(corpus(), small_vla(), 0)
    subject.save(tmp_path, subject.network, torch.float32)
    (tmp_path / "action_tokenizer" / "processor_config.json").unlink()
    with pytest.raises(CheckpointError, match="processor_config"):
        load_checkpoint(tmp_path)

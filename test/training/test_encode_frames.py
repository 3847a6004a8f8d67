"""Keys and tokens of a frame are those of plain decoding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.episodes import episode
from support.small_models import CONFIG, INSTRUCTIONS, configs, small_vla

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.perception import perceive
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import UnknownInstructionError
from heisd_ros.training.encode_frames import read_frames


def recording(config, steps, seed):
    """An episode with the model's views, and proprioception of its size."""
    rng = np.random.default_rng(seed)
    images = {
        view: rng.integers(0, 256, (steps, 20, 20, 3), dtype=np.uint8) for view in config.views
    }
    proprio = rng.normal(size=(steps, config.proprio_size)).astype(np.float32)
    return episode(steps=steps, images=images, instruction=INSTRUCTIONS[0]), proprio


@torch.inference_mode()
def margin_of(vla, images, state):
    """Least logit of a greedy token less that of the runner-up, by the plain loop."""
    seen = perceive(vla, Observation(images, INSTRUCTIONS[0], state))
    sequence, said = vla.engine.start(vla.prompt(*seen))
    margins = []
    for _ in range(7):
        best, second = said.logits[0].topk(2).values.tolist()
        margins.append(best - second)
        said = sequence.extend(int(said.greedy))
    return min(margins)


@settings(max_examples=15)
@given(configs(), st.integers(0, 99), st.integers(1, 7), st.integers(1, 4))
def test_frames_in_batches_are_as_one_by_one(config, seed, steps, batch_size):
    vla = small_vla(config, seed)
    recorded, proprio = recording(config, steps, seed)
    frames = read_frames(vla, recorded, proprio, batch_size)
    assert frames.keys.dtype == np.float32 and frames.tokens.dtype == np.int64
    decoder = AutoregressiveDecoder(vla)
    for step in range(steps):
        images = tuple(recorded.images[view][step] for view in config.views)
        state = proprio[step] if config.proprio_size else None
        result = decoder.infer(Observation(images, INSTRUCTIONS[0], state))
        if margin_of(vla, images, state) > 1e-4:  # sums in another order may turn a closer call
            assert tuple(frames.tokens[step]) == result.tokens
        inputs = vla.encode(images, INSTRUCTIONS[0], state)
        with torch.inference_mode():
            key = vla.retrieval_key(vla.model.vision_features(inputs.pixels))
        np.testing.assert_allclose(frames.keys[step], key, atol=1e-5)


def test_a_task_that_the_model_does_not_know_is_refused():
    recorded, proprio = recording(CONFIG, 2, 0)
    with pytest.raises(UnknownInstructionError, match="dance"):
        read_frames(small_vla(), dataclasses.replace(recorded, instruction="dance"), proprio, 2)

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_models import (
    CONFIG,
    INSTRUCTIONS,
    acting_vla,
    configs,
    random_images,
    small_vla,
)

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import TIMING_KEYS, Observation
from heisd_ros.errors import UnknownInstructionError


def observation_for(config, seed=0, instruction=INSTRUCTIONS[0]):
    proprio = np.full(config.proprio_size, 0.5, np.float32) if config.proprio_size else None
    return Observation(random_images(config, seed), instruction, proprio)


@torch.inference_mode()
def greedy_without_cache(vla, observation):
    """Every token from one pass over the whole sequence so far."""
    model = vla.model
    inputs = vla.encode(observation.images, observation.instruction, observation.proprio)
    visual_tokens = model.project(model.vision_features(inputs.pixels))
    ids = inputs.ids
    for _ in range(7):
        hidden = model.language_model.model(model.embed(ids, visual_tokens, inputs.proprio))
        logits = model.language_model.logits(hidden[:, -1])
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
    return tuple(ids[0, -7:].tolist())


@settings(max_examples=20)
@given(configs(), st.integers(0, 99))
def test_tokens_are_the_greedy_ones(config, seed):
    vla = small_vla(config, seed)
    observation = observation_for(config, seed)
    result = AutoregressiveDecoder(vla).infer(observation)
    assert result.tokens == greedy_without_cache(vla, observation)


def test_the_result_accounts_for_the_step():
    vla = acting_vla()
    result = AutoregressiveDecoder(vla).infer(observation_for(CONFIG))
    assert result.action.shape == (7,) and result.action.dtype == np.float64
    np.testing.assert_array_equal(result.action, vla.codec.decode(result.tokens)[0])
    assert (result.source, result.passes) == ("autoregressive", 7)
    keys = tuple(result.timings_ms)
    assert keys == ("preprocess", "vision", "prefill", "decode", "detokenise", "total")
    assert set(keys) <= set(TIMING_KEYS)
    parts = [result.timings_ms[key] for key in keys[:-1]]
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(result.timings_ms["total"])


def test_the_language_model_runs_seven_times_and_its_head_on_one_column():
    vla = small_vla()
    widths = []
    language = vla.model.language_model
    language.model.register_forward_pre_hook(lambda _, args: widths.append(args[0].shape[1]))
    rows = []
    logits = language.logits
    language.logits = lambda hidden, *a: rows.append(hidden.shape[:-1]) or logits(hidden, *a)
    result = AutoregressiveDecoder(vla).infer(observation_for(CONFIG))
    assert len(widths) == result.passes == 7 and widths[1:] == [1] * 6
    assert rows == [(1,)] * 7


def test_steps_do_not_depend_on_what_came_before():
    decoder = AutoregressiveDecoder(small_vla())
    first = decoder.infer(observation_for(CONFIG, 1))
    other = decoder.infer(observation_for(CONFIG, 2, INSTRUCTIONS[1]))
    decoder.reset()
    again = decoder.infer(observation_for(CONFIG, 1))
    assert first.tokens == again.tokens != other.tokens


def test_an_answer_that_stands_for_no_action_is_no_number():
    vla = small_vla()
    with torch.no_grad():  # the text ids win
        vla.model.language_model.lm_head.weight[vla.model.action_rows] = 0.0
    result = AutoregressiveDecoder(vla).infer(observation_for(CONFIG))
    assert not set(result.tokens) <= set(vla.codec.action_ids)
    assert np.isnan(result.action).all() and "are no actions" in result.problem


def test_unknown_instructions_are_refused():
    vla = small_vla()
    observation = observation_for(CONFIG, instruction="sing")
    with pytest.raises(UnknownInstructionError, match="sing"):
        AutoregressiveDecoder(vla).infer(observation)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_tokens():
    vla = small_vla()
    observation = observation_for(CONFIG)
    expected = AutoregressiveDecoder(vla).infer(observation)
    vla.model.cuda()
    result = AutoregressiveDecoder(vla).infer(observation)
    assert result.tokens == expected.tokens

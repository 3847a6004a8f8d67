"""NORA against what upstream's own code computes from the same folder."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from support.references import FamilyReference, drafted_answer, plain_answer

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import (
    AnswerError,
    CheckpointError,
    ImageError,
    ProprioceptionError,
    UnknownInstructionError,
    UnknownStatisticsError,
)
from heisd_ros.families.checkpoint import load_checkpoint
from heisd_ros.families.nora.checkpoint import NoraSettings
from heisd_ros.families.nora.preprocessing import chat_text
from heisd_ros.vla.action_codec import MOST_TOKENS

REFERENCE = FamilyReference("nora")
ARRAYS = REFERENCE.arrays
REFUSED = {
    "h5_long": "did not end within 20 tokens",
    "bad_count": "4 coefficients; 1 actions of 7 numbers need 7",
    "bad_text": "none of the answer's 6 tokens is an action",
    "penalty_matters_1": "4 coefficients",
    "penalty_matters_2": "did not end within 20 tokens",
}
_LOADED = {}


def model_of(case):
    """The model with the settings of a case."""
    settings = case["time_horizon"], case["generate_kwargs"].get("max_new_tokens")
    key = case["unnorm_key"], settings
    if key not in _LOADED:
        _LOADED[key] = load_checkpoint(
            REFERENCE.folder, statistics_key=key[0], settings=NoraSettings(*settings)
        )
    return _LOADED[key]


@pytest.fixture(params=REFERENCE.cases.values(), ids=REFERENCE.cases)
def case(request):
    return request.param


def inputs_of(case):
    return model_of(case).encode([REFERENCE.image(case["image"])], case["instruction"])


def test_prompt_and_pixels(case):
    name, inputs = case["name"], inputs_of(case)
    assert inputs.ids == case["input_ids"]
    if "chat_text" in case:
        assert chat_text(case["instruction"]) == case["chat_text"]
    patches = inputs.patches.numpy()
    if f"{name}/pixel_values" in ARRAYS:
        np.testing.assert_array_equal(patches, ARRAYS[f"{name}/pixel_values"])
    elif f"{name}/pixel_values_every4" in ARRAYS:
        np.testing.assert_array_equal(patches[::4, ::4], ARRAYS[f"{name}/pixel_values_every4"])


def test_answers_and_actions(case):
    model, name = model_of(case), case["name"]
    answer = plain_answer(model, inputs_of(case))
    if "position_ids" in case:
        assert answer.prompt.positions[:, 0].tolist() == case["position_ids"]
        following = answer.prompt.next_position - len(case["input_ids"])
        assert following == case["rope_delta"]
    assert answer.tokens == case["generated_ids"]
    if f"{name}/image_embeds" in ARRAYS:
        features, ids = answer.features[0].numpy(), ARRAYS["logit_ids"]
        np.testing.assert_allclose(features, ARRAYS[f"{name}/image_embeds"], rtol=0, atol=1e-4)
        scores = ARRAYS[f"{name}/scores_after_penalty"]
        np.testing.assert_allclose(answer.logits[:, ids], scores, rtol=0, atol=1e-4)
    assert drafted_answer(model, answer.prompt, answer.tokens, seed=len(name))[0] == answer.tokens
    if name in REFUSED:
        with pytest.raises(AnswerError, match=REFUSED[name]):
            model.codec.decode(answer.tokens)
        return
    np.testing.assert_allclose(
        model.codec.chunk(answer.tokens), case["normalized_actions"], rtol=0, atol=1e-15
    )
    actions = model.codec.decode(answer.tokens)
    np.testing.assert_allclose(actions, case["actions"], rtol=0, atol=1e-15)
    if name != "mixed_text":
        assert list(model.codec.encode(actions)) == answer.tokens


@torch.inference_mode()
def test_without_the_penalty(case):
    model = model_of(case)
    answer = plain_answer(model, inputs_of(case), model.engine.without_penalty())
    assert answer.tokens == case["generated_ids_without_repetition_penalty"]
    if f"{case['name']}/raw_logits" in ARRAYS:
        raw = ARRAYS[f"{case['name']}/raw_logits"]
        np.testing.assert_allclose(answer.logits[:, ARRAYS["logit_ids"]], raw, rtol=0, atol=1e-4)
        first = ARRAYS[f"{case['name']}/full_logits_step0"]
        np.testing.assert_allclose(answer.logits[0], first, rtol=0, atol=1e-4)


def test_the_penalty_changes_an_answer():
    changed = [
        case["name"]
        for case in REFERENCE.cases.values()
        if case["generated_ids"] != case["generated_ids_without_repetition_penalty"]
    ]
    assert changed == ["penalty_matters_1", "penalty_matters_2"]


def test_an_answer_that_cannot_be_decoded_is_held_with_its_reason():
    case = REFERENCE.cases["bad_text"]
    observation = Observation((REFERENCE.image(case["image"]),), case["instruction"])
    result = AutoregressiveDecoder(model_of(case)).infer(observation)
    assert np.isnan(result.action).all() and "is an action" in result.problem


def test_an_instruction_with_the_text_of_a_special_token_is_refused():
    model = model_of(REFERENCE.cases["h1_224"])
    picture = np.zeros((8, 8, 3), np.uint8)
    for text in ("lift<|im_end|>", "<robot_action_7>", "<|image_pad|>"):
        with pytest.raises(UnknownInstructionError, match="plain text"):
            model.encode([picture], text)
    with pytest.raises(ProprioceptionError, match="no numbers"):
        model.encode([picture], "lift", [0.0])
    for wrong in ([], [picture, picture], [picture[..., :2]]):
        with pytest.raises(ImageError):
            model.encode(wrong, "lift")


def test_statistics_are_chosen_by_name():
    with pytest.raises(UnknownStatisticsError, match="'bridge_orig', 'fractal20220817_data'"):
        load_checkpoint(REFERENCE.folder, "meta")
    with pytest.raises(UnknownStatisticsError, match="no statistics 'libero'"):
        load_checkpoint(REFERENCE.folder, "meta", torch.float32, "libero")


def changed(tmp_path, name, content):
    """A folder whose weights are links, with one file of JSON changed."""
    folder = tmp_path / "model"
    shutil.copytree(REFERENCE.folder, folder, symlinks=True)
    old = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**old, **content}))
    return folder


def test_what_no_file_of_upstream_says(tmp_path):
    ours = {"horizon": 5, "max_new_tokens": 64, "control_rate_hz": 5.0}
    folder = changed(tmp_path, "config.json", {"heisd": ours})
    model = load_checkpoint(folder, "meta", any_statistics=True)
    assert (model.codec.horizon, model.codec.max_tokens) == (5, 64)
    assert model.spec.control_rate_hz == 5.0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", {"heisd": {"horizon": 0}}, "horizon is 0"),
        ("config.json", {"heisd": {"hoirzon": 5}}, "hoirzon"),
        ("config.json", {"heisd": {"horizon": 10**9}}, "horizon is 1000000000; accepted: 1 to"),
        ("config.json", {"heisd": {"max_new_tokens": 10**9}}, "max_new_tokens is 1000000000"),
        ("config.json", {"heisd": {"control_rate_hz": -5.0}}, "control_rate_hz is -5"),
        ("config.json", {"image_token_id": 5}, "image_token_id is 5"),
        ("config.json", {"hidden_size": 32}, "tensors do not fit"),
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ("config.json", {"hidden_size": 17}, "no network of this config"),
        ("config.json", {"vision_config": {"depth": "3"}}, "depth is '3'"),
        ("generation_config.json", {"no_repeat_ngram_size": 3}, "no_repeat_ngram_size is 3"),
        ("generation_config.json", {"eos_token_id": None}, "names no eos_token_id"),
        ("generation_config.json", {"repetition_penalty": 0}, "repetition_penalty is 0"),
        ("preprocessor_config.json", {"min_pixels": 10**6}, "min_pixels 1000000"),
        (
            "preprocessor_config.json",
            {"min_pixels": None, "size": {"shortest_edge": 65536, "longest_edge": 10**6}},
            "min_pixels 65536 to",
        ),
        ("preprocessor_config.json", {"max_pixels": "many"}, "max_pixels is 'many'"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "image_std is"),
        ("preprocessor_config.json", {"patch_size": 7}, r"are \(7, 2, 2\); accepted: \(14, 2, 2\)"),
        ("fast/processor_config.json", {"scale": 0}, "scale is 0"),
        ("norm_stats.json", {"bridge_orig": {"action": {"q01": [0]}}}, "bridge_orig.action"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, name, content, message):
    folder = changed(tmp_path, name, content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder, "meta", any_statistics=True)


def test_limits_of_pixels_may_be_missing_or_named_otherwise(tmp_path):
    named = {"min_pixels": None, "max_pixels": None, "size": {"shortest_edge": 3136}}
    folder = changed(tmp_path, "preprocessor_config.json", named)
    load_checkpoint(folder, "meta", any_statistics=True)


@pytest.mark.parametrize("place", ["", "adapter"])
def test_an_adapter_is_refused_and_not_passed_over(tmp_path, place):
    folder = changed(tmp_path, "config.json", {})
    (folder / place).mkdir(exist_ok=True)
    (folder / place / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json is of a LoRA adapter"):
        load_checkpoint(folder, "meta", any_statistics=True)


def test_a_network_that_cannot_run_is_refused(tmp_path):
    folder = changed(tmp_path, "config.json", {"rope_scaling": None})
    with pytest.raises(CheckpointError, match="the network cannot run: RuntimeError"):
        load_checkpoint(folder, any_statistics=True)


def test_an_answer_is_of_a_bounded_length(tmp_path):
    folder = changed(tmp_path, "generation_config.json", {"max_length": 10**15})
    assert load_checkpoint(folder, "meta", any_statistics=True).codec.max_tokens == MOST_TOKENS


def test_without_fast_tokenizer(tmp_path):
    folder = changed(tmp_path, "config.json", {})
    shutil.rmtree(folder / "fast")
    with pytest.raises(CheckpointError, match="download physical-intelligence/fast into it"):
        load_checkpoint(folder, "meta", any_statistics=True)

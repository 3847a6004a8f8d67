"""ECoT against what upstream's own code computes from the same folder."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from support.references import FamilyReference, drafted_answer, plain_answer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import (
    AnswerError,
    CheckpointError,
    ImageError,
    ProprioceptionError,
    UnknownInstructionError,
)
from heisd_ros.families.checkpoint import load_checkpoint
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.ecot.config import PROMPT, EcotConfig
from heisd_ros.vla.checkpoint_files import read_json
from heisd_ros.vla.static_engine import StaticEngine

REFERENCE = FamilyReference("ecot")
ARRAYS = REFERENCE.arrays
STOP = 2


@pytest.fixture(scope="module")
def model():
    return load_checkpoint(REFERENCE.folder)


@pytest.fixture(params=REFERENCE.cases.values(), ids=REFERENCE.cases)
def case(request):
    return request.param


def inputs_of(model, case):
    return model.encode([REFERENCE.image(case["image"])], case["instruction"])


def test_prompt_and_pixels(model, case):
    inputs, name = inputs_of(model, case), case["name"]
    assert PROMPT.format(instruction=case["instruction"].lower()) == case["prompt"]
    assert inputs.ids[0].tolist() == case["input_ids"]
    pixels = inputs.pixels[0].numpy()
    if f"{name}/pixel_values" in ARRAYS:
        np.testing.assert_array_equal(pixels, ARRAYS[f"{name}/pixel_values"])
    elif f"{name}/pixel_values_every8" in ARRAYS:
        np.testing.assert_array_equal(pixels[:, ::8, ::8], ARRAYS[f"{name}/pixel_values_every8"])


def test_answers_and_actions(model, case):
    name = case["name"]
    answer = plain_answer(model, inputs_of(model, case), most=case["max_new_tokens"])
    assert answer.tokens == case["generated_ids"]
    said = torch.tensor(answer.logits).log_softmax(-1).numpy()
    np.testing.assert_allclose(
        said[range(case["n_new"]), answer.tokens], ARRAYS[f"{name}/token_logprob"], atol=1e-4
    )
    if not case["ends_with_eos"]:
        with pytest.raises(AnswerError, match="did not end within 30 tokens"):
            model.codec.decode(answer.tokens)
        return
    drafted, passes = drafted_answer(model, answer.prompt, answer.tokens, seed=len(name))
    assert drafted == answer.tokens
    assert passes < len(drafted) / 2
    ids = model.codec.action_tokens(answer.tokens)
    assert list(ids) == case["action_token_ids"]
    normalised = model.codec.normalised(answer.tokens)
    np.testing.assert_allclose(normalised, case["normalized_actions"], rtol=0, atol=1e-15)
    action = model.codec.decode(answer.tokens)[0]
    np.testing.assert_allclose(action, case["actions_eos_stripped"], rtol=0, atol=1e-15)


def test_stages_of_one_picture(model):
    case = REFERENCE.cases["s_480x640"]
    answer = plain_answer(model, inputs_of(model, case))
    features = answer.features
    np.testing.assert_allclose(features[0], ARRAYS["s_480x640/tower_siglip"], rtol=0, atol=1e-4)
    with torch.inference_mode():
        projected = model.model.projector(features)[0]
    np.testing.assert_allclose(projected, ARRAYS["s_480x640/projector"], rtol=0, atol=1e-4)
    text = answer.logits[:, ARRAYS["s_480x640/step_logit_ids_text"]]
    np.testing.assert_allclose(text, ARRAYS["s_480x640/step_logits_cols"], rtol=0, atol=1e-4)
    actions = answer.logits[-8:, 31744:32000]
    np.testing.assert_allclose(actions, ARRAYS["s_480x640/step_logits_action"], rtol=0, atol=1e-4)
    first = ARRAYS["s_480x640/full_logits_step0"]
    np.testing.assert_allclose(answer.logits[0], first, rtol=0, atol=1e-4)


def test_what_it_says(model):
    case = REFERENCE.cases["ep0"]
    parts = model.codec.parts(case["generated_ids"])
    assert parts["TASK"] == "Put the spoon on the towel."
    assert parts["SUBTASK"] == "reach for the spoon"
    assert parts["MOVE"] == "move down"
    assert parts["ACTION"] == ""
    assert " ".join(f"{tag}: {text}".strip() for tag, text in parts.items()) == (
        "TASK: " + case["decoded_new_text"].partition(" ACTION:")[0] + " ACTION:"
    )


def test_an_answer_is_refused_unless_its_last_seven_tokens_are_its_actions(model):
    good = REFERENCE.cases["ep0"]["generated_ids"]
    codec = model.codec
    for wrong, message in (
        (good[:-1], "did not end"),
        ([*good[:-2], STOP], "6 action ids"),
        ([*good[:-1], 31800, STOP], "8 action ids"),
        ([31800, *good], "8 action ids"),
        ([*good[:-3], 400, *good[-2:]], "6 action ids"),
        ([STOP], "0 action ids"),
        ([], "did not end"),
    ):
        with pytest.raises(AnswerError, match=message):
            codec.decode(wrong)


def test_actions_as_an_answer_and_back(model):
    action = REFERENCE.cases["ep1"]["actions_eos_stripped"]
    tokens = model.codec.encode([action])
    np.testing.assert_allclose(model.codec.decode(tokens), [action], rtol=0, atol=1e-15)


def test_another_convention_of_the_gripper():
    convention = DataConvention(gripper=(1.0, 0.0))
    model = load_checkpoint(REFERENCE.folder, convention=convention)
    case = REFERENCE.cases["ep0"]
    action = model.codec.decode(case["generated_ids"])[0]
    np.testing.assert_allclose(action[:6], case["actions_eos_stripped"][:6], rtol=0, atol=1e-15)
    assert action[6] == -1.0


def test_bfloat16():
    model = load_checkpoint(REFERENCE.folder, dtype=torch.bfloat16)
    case = REFERENCE.cases["ep0"]
    assert plain_answer(model, inputs_of(model, case)).tokens == case["generated_ids"]


def test_the_engine_of_fixed_shapes(model):
    case = REFERENCE.cases["ep2"]
    engine = StaticEngine(model.model)
    answer = plain_answer(model, inputs_of(model, case), engine)
    assert answer.tokens == case["generated_ids"]
    drafted, _ = drafted_answer(model, answer.prompt, answer.tokens, 3, engine)
    assert drafted == answer.tokens


def test_an_answer_that_never_ends_is_held_with_its_reason():
    model = load_checkpoint(REFERENCE.folder, max_tokens=30)
    case = REFERENCE.cases["t_truncated"]
    observation = Observation((REFERENCE.image(case["image"]),), case["instruction"])
    result = AutoregressiveDecoder(model).infer(observation)
    assert list(result.tokens) == case["generated_ids"]
    assert np.isnan(result.action).all() and "did not end within 30 tokens" in result.problem


def test_inputs_that_it_does_not_take(model):
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ProprioceptionError):
        model.encode([picture], "lift", [0.0])
    for wrong in ([], [picture, picture], [picture[0]]):
        with pytest.raises(ImageError):
            model.encode(wrong, "lift")


def test_a_picture_too_long_for_a_square_is_refused(model):
    with pytest.raises(ImageError, match="becomes a square"):
        model.encode([np.zeros((1, 10_000, 3), np.uint8)], "lift")


def test_an_id_that_the_network_lacks_is_refused(model, monkeypatch):
    other = Tokenizer(WordLevel({"another": 10**6}, unk_token="another"))
    monkeypatch.setattr(model, "tokenizer", other)
    with pytest.raises(UnknownInstructionError, match="1000000"):
        model.encode([np.zeros((8, 8, 3), np.uint8)], "lift")


@pytest.mark.parametrize(
    "ours", [{"control_rate_hz": -20.0}, {"max_tokens": 10**6}, {"pad_to_multiple_of": -300}]
)
def test_numbers_out_of_range_are_refused(tmp_path, ours):
    shutil.copytree(REFERENCE.folder, tmp_path, dirs_exist_ok=True)
    config = read_json(tmp_path / "config.json")
    section = {} if "pad_to_multiple_of" in ours else {"heisd": ours}
    (tmp_path / "config.json").write_text(json.dumps({**config, **ours, **section}))
    with pytest.raises(CheckpointError, match=next(iter(ours))):
        load_checkpoint(tmp_path, "meta")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llm_backbone_id", "llama2-7b-pure"),
        ("image_resize_strategy", "resize-naive"),
        ("arch_specifier", "gelu-mlp"),
        ("n_action_bins", 512),
    ],
)
def test_other_layouts_are_refused(key, value):
    config = read_json(REFERENCE.folder / "config.json")
    preprocessor = read_json(REFERENCE.folder / "preprocessor_config.json")
    with pytest.raises(ValueError, match=key):
        EcotConfig.from_dict({**config, key: value}, preprocessor)
    with pytest.raises(ValueError, match="tvf_do_letterbox"):
        EcotConfig.from_dict(config, {**preprocessor, "tvf_do_letterbox": False})


def test_a_penalty_is_refused(tmp_path):
    for path in REFERENCE.folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "generation_config.json").write_text(
        '{"eos_token_id": 2, "repetition_penalty": 1.2}'
    )
    with pytest.raises(CheckpointError, match=r"repetition_penalty 1.2"):
        load_checkpoint(tmp_path, "meta")

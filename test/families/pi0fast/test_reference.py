"""pi0-FAST against what LeRobot's own code computes from the same folder."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.references import FamilyReference, drafted_answer, plain_answer

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.spans import Compared
from heisd_ros.decoding.tree import NO_DRAFT, DraftTree
from heisd_ros.decoding.types import Observation
from heisd_ros.decoding.verifier import Verification
from heisd_ros.errors import (
    AnswerError,
    CheckpointError,
    ImageError,
    ProprioceptionError,
    UnknownStatisticsError,
)
from heisd_ros.families.checkpoint import load_checkpoint
from heisd_ros.families.pi0fast.preprocessing import prepare_image
from heisd_ros.vla.checkpoint_files import fingerprint

REFERENCE = FamilyReference("pi0fast")
ARRAYS = REFERENCE.arrays
IMAGES = {name: REFERENCE.image(of["file"]) for name, of in REFERENCE.content["images"].items()}
REFUSED = {
    "token_limit": "did not end within 48 tokens",
    "seg_token": r"FAST ids \[-6\]",
    "no_prefix": "no 'Action:'",
    "too_short": "28 coefficients; 10 actions of 7 numbers need 70",
    "too_long": "76 coefficients",
    "bad_utf8": "malformed UTF-8",
    "untrained": "91 coefficients",
}


@pytest.fixture(scope="module")
def model():
    return load_checkpoint(REFERENCE.folder)


@pytest.fixture(params=REFERENCE.cases.values(), ids=REFERENCE.cases)
def case(request):
    return request.param


def images_of(model, case):
    return [IMAGES.get(case["cameras"].get(camera)) for camera in model.config.cameras]


def inputs_of(model, case):
    return model.encode(images_of(model, case), case["task"], ARRAYS[f"{case['name']}/state"])


def test_prompt(model, case):
    name = case["name"]
    expected = ARRAYS[f"{name}/prompt_ids"][ARRAYS[f"{name}/prompt_mask"]].tolist()
    ids = inputs_of(model, case).ids[0].tolist()
    assert ids == [*expected, expected[0]]  # upstream puts a second <bos> behind the padding
    state = ARRAYS[f"{name}/state"]
    np.testing.assert_array_equal(model.states.forward(state), ARRAYS[f"{name}/state_normalised"])


@pytest.mark.parametrize("name", IMAGES)
def test_pixels(name):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # as upstream ran: with more, torch rounds the last bit otherwise
        pixels = prepare_image(IMAGES[name], 112).numpy()
        np.testing.assert_array_equal(pixels, ARRAYS[f"pixels/{name}"])
        torch.set_num_threads(2)
        pixels = prepare_image(IMAGES[name], 112).numpy()
        np.testing.assert_allclose(pixels, ARRAYS[f"pixels/{name}"], rtol=0, atol=3e-7)
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
@pytest.mark.parametrize("name", IMAGES)
def test_visual_tokens(model, name):
    pixels = torch.tensor(ARRAYS[f"pixels/{name}"])[None]
    hidden = model.network.model.vision_tower(pixels).last_hidden_state
    tokens = model.network.model.multi_modal_projector(hidden)[0].numpy()
    np.testing.assert_allclose(tokens, ARRAYS[f"image_emb/{name}"], rtol=0, atol=1e-4)


def test_columns(model):
    answer = plain_answer(model, inputs_of(model, REFERENCE.cases["two_cams"]), most=1)
    columns = answer.prompt.columns[0].numpy()
    np.testing.assert_allclose(columns, ARRAYS["two_cams/prefix_embs"], rtol=0, atol=1e-4)


def test_answers_and_actions(model, case):
    name = case["name"]
    answer = plain_answer(model, inputs_of(model, case))
    assert answer.prompt.columns.shape[1] == case["prefix_valid"]
    assert answer.tokens == case["generated_ids"]
    expected = ARRAYS[f"{name}/logits"]
    np.testing.assert_allclose(answer.logits[: len(expected)], expected, rtol=0, atol=1e-4)
    assert drafted_answer(model, answer.prompt, answer.tokens, seed=len(name))[0] == answer.tokens
    if name in REFUSED:
        with pytest.raises(AnswerError, match=REFUSED[name]):
            model.codec.decode(answer.tokens)
        return
    assert case["kind"] == "ok"
    assert model.codec.fast_ids(answer.tokens) == case["fast_ids"]
    np.testing.assert_array_equal(model.codec.chunk(answer.tokens), ARRAYS[f"{name}/chunk"])
    actions = model.codec.decode(answer.tokens)
    np.testing.assert_array_equal(actions, ARRAYS[f"{name}/actions"])
    assert list(model.codec.encode(actions)) == answer.tokens


@pytest.mark.parametrize("probe", REFERENCE.content["probes"], ids=lambda probe: probe["name"])
def test_answers_made_by_hand(model, probe):
    """What upstream decodes from well-formed ids; whatever it mends or zeroes is refused."""
    decoded = {"good", "junk_after_bar", "prefix_twice"}
    if probe["name"] in decoded:
        expected = ARRAYS[f"probe/{probe['name']}"]
        np.testing.assert_array_equal(model.codec.chunk(probe["ids"]), expected)
    else:
        with pytest.raises(AnswerError):
            model.codec.decode(probe["ids"])


def test_a_draft_of_the_whole_answer_is_one_pass(model):
    answer = plain_answer(model, inputs_of(model, REFERENCE.cases["two_cams"]))
    tree = DraftTree.from_chains([[*answer.tokens, 5, 6]])
    with torch.inference_mode():
        verification = Verification.start(model.engine, answer.prompt, tree, "exact")
    assert verification.finished and verification.passes == 1
    assert verification.tokens == answer.tokens  # what was drafted behind the bar is not taken


def test_bfloat16_answers_as_upstream():
    model = load_checkpoint(REFERENCE.folder, dtype=torch.bfloat16)
    assert model.network.model.vision_tower.dtype == torch.float32
    for name in ("two_cams", "second_cam_only", "seg_token"):
        case = REFERENCE.cases[name]
        answer = plain_answer(model, inputs_of(model, case))
        assert answer.tokens == case["generated_ids"]


def test_an_answer_that_cannot_be_decoded_is_held_with_its_reason(model):
    case = REFERENCE.cases["too_short"]
    images = tuple(images_of(model, case))
    observation = Observation(images, case["task"], ARRAYS["too_short/state"])
    result = AutoregressiveDecoder(model).infer(observation)
    assert np.isnan(result.chunk).all() and result.chunk.shape == (10, 7)
    assert "28 coefficients" in result.problem


def test_what_it_wants_to_see(model):
    assert model.spec.views == ("image", "image2")
    assert (model.spec.image_size, model.spec.proprio_size) == (112, 8)
    assert (model.codec.horizon, model.codec.dimensions) == (10, 7)
    state, picture = ARRAYS["two_cams/state"], IMAGES["b_112"]
    with pytest.raises(ImageError, match="image, image2"):
        model.encode([picture], "lift", state)
    with pytest.raises(ImageError, match="0 of them"):
        model.encode([None, None], "lift", state)
    with pytest.raises(ImageError, match="RGB uint8"):
        model.encode([picture, picture[..., :1]], "lift", state)
    with pytest.raises(ProprioceptionError, match="8 numbers; none was given"):
        model.encode([picture, picture], "lift")
    for wrong in (state[:7], np.full(8, np.nan)):
        with pytest.raises(ProprioceptionError, match="8 finite numbers"):
            model.encode([picture, picture], "lift", wrong)


def copied(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(REFERENCE.folder, folder)
    return folder


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_action_steps": 5}, "n_action_steps is 5; accepted: 10"),
        ({"chunk_size": 10**6, "n_action_steps": 10**6}, "chunk_size is 1000000"),
        ({"max_decoding_steps": 10**9}, "max_tokens is 1000000000"),
        ({"tokenizer_max_length": -1}, "prompt_length is -1"),
        ({"fast_skip_tokens": -1}, "fast_skip_tokens is -1"),
        ({"temperature": 0.7}, "temperature is 0.7"),
        ({"use_relative_actions": True}, "use_relative_actions is True"),
        ({"image_resolution": [112, 224]}, "a square"),
        ({"paligemma_variant": "gemma_9b"}, "paligemma_variant is 'gemma_9b'"),
        ({"output_features": {}}, "no 'action'"),
        ({"type": "pi1"}, "known are openvla"),
    ],
)
def test_a_config_that_means_something_else_is_refused(tmp_path, changes, message):
    folder = copied(tmp_path)
    edit(folder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def edit_step(folder, file, name, **changes):
    """Changes the config of one step of a saved pipeline."""
    content = json.loads((folder / file).read_text())
    step = next(step for step in content["steps"] if step["registry_name"] == name)
    step["config"] |= changes
    (folder / file).write_text(json.dumps(content))


def test_the_saved_pipelines_say_how_numbers_are_normalised(tmp_path):
    """LeRobot runs them; the config's mapping made them once."""
    folder = copied(tmp_path)
    edit(folder / "config.json", normalization_mapping={"STATE": "MIN_MAX", "ACTION": "IDENTITY"})
    assert load_checkpoint(folder).states.mode == "MEAN_STD"
    steps = (
        ("policy_preprocessor.json", "normalizer_processor"),
        ("policy_postprocessor.json", "unnormalizer_processor"),
    )
    for file, name in steps:
        edit_step(folder, file, name, eps=0.01)
    assert load_checkpoint(folder).states.epsilon == np.float32(0.01)
    for file, name in steps:
        edit_step(folder, file, name, norm_map={"STATE": "SQUARED", "ACTION": "MEAN_STD"})
    with pytest.raises(CheckpointError, match="'SQUARED'"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("action_tokenizer", "no folder 'action_tokenizer': download action_tokenizer"),
        ("tokenizer", "no folder 'tokenizer'"),
        ("policy_postprocessor.json", "policy_postprocessor.json is missing"),
        ("policy_preprocessor_step_3_normalizer_processor.safetensors", "is missing"),
        ("model.safetensors", "neither model.safetensors"),
        ("tiny_sizes.json", "tensors do not fit the config"),
    ],
)
def test_a_part_that_is_missing_is_named(tmp_path, name, message):
    folder = copied(tmp_path)
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize("steps", [3, [], ["x"], [{"registry_name": "normalizer_processor"}]])
def test_a_pipeline_without_its_step(tmp_path, steps):
    folder = copied(tmp_path)
    edit(folder / "policy_preprocessor.json", steps=steps)
    with pytest.raises(CheckpointError, match="steps 'normalizer_processor'"):
        load_checkpoint(folder, "meta")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"gemma": {"depth": 10**9}}, "gemma depth is 1000000000"),
        ({"gemma": {"num_heads": 3, "num_kv_heads": 2}}, "a multiple"),
        ({"siglip": {"hidden_size": 65}}, "must divide"),
        ({"siglip": {"patch_size": 0}}, "siglip patch_size is 0"),
    ],
)
def test_sizes_of_no_network(tmp_path, sizes, message):
    folder = copied(tmp_path)
    old = json.loads((folder / "tiny_sizes.json").read_text())
    edit(folder / "tiny_sizes.json", **{key: {**old[key], **sizes[key]} for key in sizes})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder, "meta")


def test_statistics_of_another_size_are_refused(tmp_path):
    folder = copied(tmp_path)
    path = folder / "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "action.std": tensors["action.std"][:6].clone()}, path)
    with pytest.raises(CheckpointError, match=r"action.std is \(6,\); 7 finite numbers"):
        load_checkpoint(folder)


def test_statistics_have_no_name():
    with pytest.raises(UnknownStatisticsError, match="one set"):
        load_checkpoint(REFERENCE.folder, "cpu", torch.float32, "bridge_orig")


def test_one_matrix_for_embedding_and_head(tmp_path):
    """What safetensors keeps of two tensors that are one."""
    folder = copied(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    embedding = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    del tensors[embedding]
    save_file(tensors, folder / "model.safetensors")
    model = load_checkpoint(folder)
    embedded = model.network.get_input_embeddings().weight
    assert torch.equal(embedded, model.network.lm_head.weight)


@pytest.mark.parametrize("place", ["action_tokenizer/bpe_tokenizer", "theirs"])
def test_the_fingerprint_covers_tokenizers_wherever_they_are_read(tmp_path, place):
    folder = copied(tmp_path)
    (folder / "elsewhere").mkdir()
    before = fingerprint(folder)
    (folder / "elsewhere" / "tokenizer.json").write_text("{}")
    assert fingerprint(folder) == before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"action_tokenizer_name": "theirs"}))
    (folder / place).mkdir()
    tokenizer = folder / place / "tokenizer.json"
    found = set()
    for text in ("{}", "[]"):
        tokenizer.write_text(text)
        found.add(fingerprint(folder))
    assert len(found) == 2


def test_headers_alone(tmp_path):
    model = load_checkpoint(REFERENCE.folder, "meta")
    assert model.device.type == "meta"


@torch.inference_mode()
@pytest.mark.parametrize("of_gripper", [False, True])
def test_a_relaxed_draft_is_executed_near_the_models_own_tokens(model, of_gripper):
    """A coefficient of the draft differs by one step, which the gripper's must not."""
    codec, seen = model.codec, plain_answer(model, inputs_of(model, REFERENCE.cases["two_cams"]))
    steps, covered = {}, 0  # of the coefficient that a token stands for, where it is one alone
    for place, token in enumerate(seen.tokens):
        if len(codec.span(token)) == 1:
            steps[place] = codec.steps[covered]
        covered += len(codec.span(token))
    place = next(n for n, step in steps.items() if np.isinf(step) == of_gripper)
    other = {codec.span(token): token for token in codec.action_ids}
    draft = list(seen.tokens)
    draft[place] = other[(codec.span(draft[place])[0] + 1,)]
    tree = DraftTree.from_chains([draft])
    verification = Verification.start(model.engine, seen.prompt, tree, "token_relaxed", room=50)
    while not verification.finished:
        verification.advance(NO_DRAFT, "exact")
    assert (verification.tokens == seen.tokens) == of_gripper
    # One plain pass over what is executed says what the model's own tokens are.
    executed = DraftTree.from_chains([verification.tokens[:-1]])
    _, said = model.engine.start(seen.prompt, executed)
    assert verification.own == said.greedy.tolist()
    spent = Compared.of(verification.tokens, verification.own, codec).spent
    assert max(spent) == (0.0 if of_gripper else pytest.approx(steps[place]))


def test_an_adapter_is_refused_and_not_passed_over(tmp_path):
    folder = copied(tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json is of a LoRA adapter"):
        load_checkpoint(folder)

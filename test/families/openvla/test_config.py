from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from support.small_models import CONFIG, LANGUAGE, TOWER, configs
from support.tree import ROOT

from heisd_ros.families.openvla.config import OPENVLA_PROMPT, VLAConfig

REFERENCE = ROOT / "test" / "data" / "openvla_reference"


def openvla(**changes):
    return {**json.loads((REFERENCE / "config.json").read_text()), **changes}


@given(configs())
def test_json_round_trip(config):
    assert VLAConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_openvla_7b_sizes():
    """From timm's names and Llama-2-7B's defaults, as the published config.json leaves them out."""
    raw = openvla(text_config={"vocab_size": 32064})
    del raw["timm_tiny_kwargs"]
    config = VLAConfig.from_dict(raw)
    dino, siglip = config.towers
    assert (dino.width, dino.blocks_run, dino.mlp_width, dino.registers) == (1024, 23, 4096, 4)
    assert (siglip.width, siglip.blocks_run, siglip.mlp_width) == (1152, 26, 4304)
    assert dino.class_token and dino.layer_scale and not siglip.layer_scale
    assert (config.vision_width, config.visual_tokens) == (2176, 256)
    assert (config.language.hidden_size, config.language.num_hidden_layers) == (4096, 32)
    assert config.real_vocab_size == 32000
    assert config.prompt == OPENVLA_PROMPT
    assert config.prompt_suffix == (29871,)
    assert config.proprio_size == 0


def test_saved_normalisation_constants_win():
    preprocessor = json.loads((REFERENCE / "preprocessor_config.json").read_text())
    assert VLAConfig.from_dict(openvla()).towers[0].mean == (0.485, 0.456, 0.406)
    rounded = VLAConfig.from_dict(openvla(), preprocessor).towers[0]
    assert rounded.mean == (0.484375, 0.455078125, 0.40625)
    assert rounded.std == (0.228515625, 0.2236328125, 0.224609375)


def test_the_backbone_s_name_stands_for_its_towers():
    raw = openvla()
    for key in ("timm_model_ids", "timm_override_act_layers", "image_sizes"):
        del raw[key]
    assert VLAConfig.from_dict(raw) == VLAConfig.from_dict(openvla())


def test_a_processor_s_own_constants_count_where_no_transform_was_saved():
    processor = {"means": [[0.1, 0.2, 0.3], [0.4] * 3], "stds": [[0.5] * 3, [0.6] * 3]}
    first, second = VLAConfig.from_dict(openvla(), processor).towers
    assert (first.mean, second.std) == ((0.1, 0.2, 0.3), (0.6, 0.6, 0.6))


@pytest.mark.parametrize(
    ("preprocessor", "message"),
    [
        ({"tvf_do_letterbox": True}, "tvf_do_letterbox is true"),
        ({"tvf_resize_params": [{}, {"interpolation": 2}]}, "interpolation is 2; only 3"),
        ({"tvf_resize_params": [{"size": [384, 384]}, {}]}, r"size is \[384, 384\]; only"),
    ],
)
def test_another_way_to_resize_is_refused(preprocessor, message):
    with pytest.raises(ValueError, match=message):
        VLAConfig.from_dict(openvla(), preprocessor)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "width 16 is no multiple of heads 3"),
        ({"image_size": 33}, "image_size 33 is no multiple of patch_size 8"),
        ({"depth": 0}, "depth is 0"),
        ({"output_block": -2}, "output_block is -2; from -1 to -1"),
        ({"output_block": 0}, "output_block is 0"),
        ({"stem": "linear"}, "stem is 'linear'; 'patch' or 'conv'"),
        ({"patch_size": 1}, "patch_size 1 must be 2, 4"),
        ({"image_size": 36, "patch_size": 12, "pixel_shuffle": 1}, "patch_size 12 must be 2, 4"),
        ({"pixel_shuffle": 3}, "pixel_shuffle 3 does not divide its grid of 4"),
        ({"registers": -1}, "registers is -1"),
        ({"std": (1.0, 0.0, 1.0)}, "std positive"),
    ],
)
def test_tower_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TOWER, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 36}, "hidden_size 36 must divide into 4 heads of even width"),
        ({"num_key_value_heads": 3}, "4 is no multiple of num_key_value_heads 3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ],
)
def test_language_model_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LANGUAGE, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"towers": (TOWER,)}, "1 towers; exactly 2"),
        ({"towers": (TOWER, dataclasses.replace(TOWER, pixel_shuffle=1))}, "towers differ"),
        ({"pad_to_multiple_of": 300}, "leaves 238 ids; more than 256"),
        ({"pad_to_multiple_of": -1}, "pad_to_multiple_of is -1"),
        ({"pad_token_id": 538}, "pad_token_id 538 is outside the 538 ids"),
        ({"projector_width": 0}, "projector_width is 0"),
        ({"views": ("a", "a")}, "one or more different names"),
        ({"views": ()}, "one or more different names"),
        ({"proprio_size": -1}, "proprio_size is -1"),
        ({"control_rate_hz": 0.0}, "control_rate_hz is 0.0"),
        ({"horizon": 1000}, "positions for an answer; 7000 are needed"),
        ({"prompt": "do it"}, "lacks '{instruction}'"),
        ({"instructions": ()}, "instructions is empty"),
    ],
)
def test_model_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llava"}, "model_type is 'llava'; only 'openvla'"),
        ({"n_action_bins": 128}, "n_action_bins is 128; only 256"),
        ({"image_resize_strategy": "letterbox"}, "only 'resize-naive'"),
        ({"text_config": {"rope_scaling": {"type": "linear"}}}, "rope_scaling"),
        (
            {"text_config": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}},
            "rope_type is 'linear'; accepted: 'default'",
        ),
        (
            {"text_config": {"rope_parameters": {"factor": 2.0}}},
            r"unknown keys in rope_parameters: \['factor'\]",
        ),
        ({"timm_model_ids": ["a", "b"]}, "timm_model_ids names 'a'; known are"),
        ({"timm_model_ids": ["a"]}, "two ids are needed"),
        ({"timm_tiny_kwargs": [{"widht": 3}, {}]}, r"unknown keys in timm_tiny_kwargs: .'widht'"),
        ({"timm_tiny_kwargs": [{}]}, "one for each of the two towers"),
        ({"llm_backbone_id": "vicuna-v15-7b"}, r"OpenVLA v0.1 .* is not supported"),
        ({"use_fused_vision_backbone": False}, r"OpenVLA v0.1 .* is not supported"),
        ({"llm_backbone_id": "llama2-7b-chat"}, "whose prompt is another"),
        ({"heisd": {"veiws": ["a"]}}, r"unknown keys in heisd: \['veiws'\]"),
        ({"heisd": {"towers": [{"wide": 3}]}}, r"unknown key heisd\.towers\[0\]\.wide"),
    ],
)
def test_a_config_file_that_we_cannot_run_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        VLAConfig.from_dict(openvla(**changes))


def test_the_base_of_the_rotation_may_be_written_apart():
    """As transformers 5 does."""
    rope = {"rope_theta": 500000.0, "rope_type": "default"}
    config = VLAConfig.from_dict(openvla(text_config={"rope_parameters": rope}))
    assert config.language.rope_theta == 500000.0

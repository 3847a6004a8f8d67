"""LoRA adapters merged at load, against the formula written out by hand."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.small_models import STATISTICS, small_model, small_tokenizer

from heisd_ros.errors import CheckpointError
from heisd_ros.families.openvla.checkpoint import load_checkpoint, save_checkpoint
from heisd_ros.vla.checkpoint_files import fingerprint

LAYER = "language_model.model.layers"
TARGETS = ["q_proj", "down_proj", "fc1", "attn.qkv"]
CONVOLUTION = "vision_backbone.featurizer.patch_embed.layers.0"
CONFIG = {
    "peft_type": "LORA",
    "base_model_name_or_path": "openvla/openvla-7b",
    "r": 3,
    "lora_alpha": 6,
    "target_modules": TARGETS,
    "bias": "none",
    "use_dora": False,
    "modules_to_save": None,
}


@pytest.fixture
def base(tmp_path):
    save_checkpoint(tmp_path / "base", small_model(), small_tokenizer(), STATISTICS)
    return tmp_path / "base"


def weights(folder):
    return load_file(folder / "model.safetensors")


def targeted(folder, targets=TARGETS):
    names = (name.removesuffix(".weight") for name in weights(folder) if name.endswith(".weight"))
    return [name for name in names if any(name.endswith(f".{target}") for target in targets)]


def pairs(folder, modules, rank=3):
    """Random A and B of each module, as PEFT shapes and names them."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for module in modules:
        shape = weights(folder)[f"{module}.weight"].shape
        down = torch.randn(rank, *shape[1:], generator=generator)
        up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator)
        tensors[f"base_model.model.{module}.lora_A.weight"] = down
        tensors[f"base_model.model.{module}.lora_B.weight"] = up
    return tensors


def write_adapter(folder, tensors, model=".", **changes):
    """An adapter to the model in a folder, by its path from the adapter's own."""
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {**CONFIG, "base_model_name_or_path": model, **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def by_hand(folder, tensors, scale):
    """W + scale B A, entry by entry in double precision."""
    merged = {name: tensor.double() for name, tensor in weights(folder).items()}
    for key in tensors:
        if not key.endswith("lora_A.weight"):
            continue
        module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        down = tensors[key].double().numpy()
        up = tensors[key.replace("lora_A", "lora_B")].double().numpy().reshape(-1, len(down))
        change = np.einsum("or,r...->o...", up, down)
        merged[f"{module}.weight"] += scale(module) * torch.from_numpy(change)
    return merged


def assert_is(folder, expected, **options):
    state = load_checkpoint(folder, **options).model.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("place", ["among the model's files", "below", "apart", "apart, by path"])
def test_merged_wherever_it_lies(base, tmp_path, place):
    folder = {"among the model's files": base, "apart": tmp_path / "apart"}.get(place, base / "x")
    model = {"below": "..", "apart": "../base", "apart, by path": str(base)}.get(place, ".")
    tensors = pairs(base, targeted(base))
    write_adapter(folder, tensors, model)
    assert_is(base if place == "below" else folder, by_hand(base, tensors, lambda m: 2.0))


@pytest.mark.parametrize("named", ["openvla/openvla-7b", "../elsewhere", "/", "", None, 7, "\0"])
@pytest.mark.parametrize("place", ["", "lora_adapter"])
def test_an_adapter_beside_weights_that_may_have_it_already_is_refused(base, named, place):
    write_adapter(base / place, pairs(base, targeted(base)), named)
    with pytest.raises(
        CheckpointError, match=r"already\. If it is, move .*base_model_name_or_path"
    ):
        load_checkpoint(base)


def test_an_adapter_of_another_model_below_weights_is_refused(base, tmp_path):
    other = shutil.copytree(base, tmp_path / "other")
    write_adapter(base / "lora_adapter", pairs(base, targeted(base)), str(other))
    with pytest.raises(CheckpointError, match=r"holds weights, and .* adapts the model .*other"):
        load_checkpoint(base)
    assert load_checkpoint(base / "lora_adapter").config is not None  # what was asked for


def test_a_run_that_was_not_merged_brings_its_statistics(base, tmp_path):
    """What OpenVLA-OFT's trainer leaves of a run: processor, statistics, and the adapter below."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(base / "tokenizer.json", run)
    statistics = {"fine": {"action": STATISTICS["small"].to_dict()}}
    (run / "dataset_statistics.json").write_text(json.dumps(statistics))
    tensors = pairs(base, targeted(base))
    write_adapter(run / "lora_adapter", tensors, "../../base")
    assert_is(run, by_hand(base, tensors, lambda m: 2.0))
    assert load_checkpoint(run).statistics_key == "fine"


def test_weights_of_an_adapter_without_its_config_are_not_passed_over(base):
    (base / "x").mkdir()
    save_file(pairs(base, targeted(base)), base / "x" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"x/adapter_config\.json is missing"):
        load_checkpoint(base)


def test_rank_stabilised_and_with_scales_of_its_own(base):
    tensors = pairs(base, targeted(base))
    write_adapter(base, tensors, use_rslora=True, alpha_pattern={"layers.1.mlp.down_proj": 1.5})

    def scale(module):
        return (1.5 if module == f"{LAYER}.1.mlp.down_proj" else 6) / 3**0.5

    assert_is(base, by_hand(base, tensors, scale))


@pytest.mark.parametrize("targets", ["all-linear", r".*\.(q_proj|up_proj)"])
def test_targets_by_kind_or_expression(base, targets):
    tensors = weights(base)
    if targets == "all-linear":
        linear = [name for name, t in tensors.items() if t.dim() == 2 and name.endswith(".weight")]
        skipped = ("lm_head.weight", "embed_tokens.weight")
        modules = [n.removesuffix(".weight") for n in linear if not n.endswith(skipped)]
    else:
        modules = targeted(base, ["q_proj", "up_proj"])
    pair = pairs(base, modules)
    write_adapter(base, pair, target_modules=targets)
    assert_is(base, by_hand(base, pair, lambda m: 2.0))
    del pair[f"base_model.model.{modules[2]}.lora_A.weight"]
    del pair[f"base_model.model.{modules[2]}.lora_B.weight"]
    write_adapter(base, pair, target_modules=targets)
    with pytest.raises(CheckpointError, match=rf"missing adapter of {modules[2]}$"):
        load_checkpoint(base)


def test_convolutions(base):
    tensors = pairs(base, [CONVOLUTION])
    write_adapter(base, tensors, target_modules=[CONVOLUTION])
    assert_is(base, by_hand(base, tensors, lambda m: 2.0))


@pytest.mark.parametrize("wrapped", ["", "modules_to_save."])
def test_modules_saved_whole_replace_the_model_s(base, wrapped):
    head = torch.randn(weights(base)["language_model.lm_head.weight"].shape)
    tensors = {f"base_model.model.language_model.lm_head.{wrapped}weight": head}
    write_adapter(base, tensors, target_modules=[], modules_to_save=["lm_head"])
    state = load_checkpoint(base).model.state_dict()
    torch.testing.assert_close(state["language_model.lm_head.weight"], head, rtol=0, atol=0)


def test_rounded_once_to_the_wanted_type(base):
    tensors = pairs(base, targeted(base))
    write_adapter(base, tensors)
    expected = by_hand(base, tensors, lambda m: 2.0)
    state = load_checkpoint(base, dtype=torch.bfloat16).model.state_dict()
    name = f"{LAYER}.0.self_attn.q_proj.weight"
    rounded = expected[name].float().to(torch.bfloat16)
    assert (state[name] != rounded).float().mean() < 0.01  # the sum in float32, not in double


def test_its_statistics_count_and_its_content_is_in_the_fingerprint(base):
    before = fingerprint(base)
    tensors = pairs(base, targeted(base))
    folder = write_adapter(base / "x", tensors, "..")
    statistics = {"fine": {"action": STATISTICS["small"].to_dict()}}
    (folder / "dataset_statistics.json").write_text(json.dumps(statistics))
    vla = load_checkpoint(folder)
    assert vla.statistics_key == "fine" and set(vla.statistics) == {"small", "fine"}
    with_adapter = fingerprint(folder)
    assert with_adapter != before and with_adapter == fingerprint(base)
    next(iter(tensors.values())).add_(1.0)
    write_adapter(folder, tensors, "..")
    assert fingerprint(folder) != with_adapter


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "use_dora is True; only False"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only 'LORA'"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"r": 0}, "r is 0; above 0"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"r": True}, "r is True; accepted: a finite number"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan; accepted: a finite number"),
        ({"target_modules": 5}, "target_modules is 5; accepted: a text"),
        ({"target_modules": "(a+)+b"}, r"target_modules has .*none of them behind a group"),
        ({"target_modules": ".*" * 9}, r"target_modules has .*up to 4 of '\*'"),
        ({"alpha_pattern": {"(": 1.0}}, "alpha_pattern has '\\(', which is no expression"),
        ({"modules_to_save": ["lm_head"]}, "missing adapter of language_model.lm_head"),
    ],
)
def test_what_is_not_merged_is_refused(base, changes, message):
    write_adapter(base, pairs(base, targeted(base)), **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(base)


def test_every_misfit_is_listed(base):
    tensors = pairs(base, targeted(base))
    at = f"base_model.model.{LAYER}.0"
    del tensors[f"{at}.self_attn.q_proj.lora_B.weight"]
    tensors[f"{at}.mlp.down_proj.lora_A.weight"] = torch.zeros(3, 5)
    tensors[f"base_model.model.{LAYER}.1.mlp.down_proj.lora_A.weight"] = torch.zeros(0, 48)
    tensors["base_model.model.elsewhere.lora_A.weight"] = torch.zeros(3, 5)
    tensors["base_model.model.elsewhere.lora_B.weight"] = torch.zeros(5, 3)
    tensors[f"{at}.mlp.down_proj.lora_magnitude_vector"] = torch.zeros(5)
    write_adapter(base, tensors)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(base)
    lines = str(error.value).split("\n  ")[1:]
    assert lines == [
        f"adapter of {LAYER}.0.mlp.down_proj is (3, 5) and (32, 3), its weight (32, 48)",
        f"adapter of {LAYER}.1.mlp.down_proj is (0, 48) and (32, 3), its weight (32, 48)",
        f"missing lora_B of {LAYER}.0.self_attn.q_proj",
        "unexpected adapter of elsewhere",
        f"unexpected {at}.mlp.down_proj.lora_magnitude_vector in the adapter",
    ]


def test_an_adapter_without_its_model_or_weights(base, tmp_path):
    alone = write_adapter(tmp_path / "alone", {"a": torch.zeros(1)}, "openvla/openvla-7b")
    with pytest.raises(
        CheckpointError, match="adapts the model 'openvla/openvla-7b', which is no folder"
    ):
        load_checkpoint(alone)
    for name in ("x", "y"):
        write_adapter(base / name, {"a": torch.zeros(1)}, "..")
    with pytest.raises(CheckpointError, match=r"holds the adapters \['x', 'y'\]: give the folder"):
        load_checkpoint(base)
    (base / "x" / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors is missing"):
        load_checkpoint(base / "x")

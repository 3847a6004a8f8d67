from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.small_models import CONFIG, STATISTICS, random_batch, small_model, small_tokenizer

from heisd_ros.errors import CheckpointError, DeviceMemoryError, UnknownStatisticsError
from heisd_ros.families.openvla.checkpoint import (
    fingerprint,
    load_checkpoint,
    save_checkpoint,
    statistics_of,
)
from heisd_ros.vla.device_memory import device_memory_errors


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path, small_model(), small_tokenizer(), STATISTICS)
    return tmp_path


def edit_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def edit_config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_round_trip(folder):
    vla = load_checkpoint(folder)
    assert vla.config == CONFIG
    assert vla.statistics == STATISTICS and vla.statistics_key == "small"
    assert vla.prompts.tokenizer.to_str() == small_tokenizer().to_str()
    assert not any(p.requires_grad for p in vla.model.parameters()) and not vla.model.training
    saved = small_model().state_dict()
    loaded = vla.model.state_dict()
    assert loaded.keys() == saved.keys()
    for name, tensor in saved.items():
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)


def test_who_reads_one_file_of_a_checkpoint_reads_all(folder):
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_saving_again_replaces_only_its_own_files(folder):
    (folder / "MODEL_CARD.md").write_text("kept")
    before = fingerprint(folder)
    save_checkpoint(folder, load_checkpoint(folder).model, small_tokenizer(), STATISTICS)
    assert fingerprint(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == [
        "MODEL_CARD.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_half_precision_on_disk_keeps_the_robot_s_units(folder):
    model = small_model()
    model.proprio_projector.mean.fill_(0.123456789)
    save_checkpoint(folder, model, small_tokenizer(), STATISTICS, dtype=torch.bfloat16)
    stored = load_file(folder / "model.safetensors")
    assert stored["projector.fc1.weight"].dtype == torch.bfloat16
    loaded = load_checkpoint(folder).model
    torch.testing.assert_close(
        loaded.proprio_projector.mean, model.proprio_projector.mean, rtol=0, atol=0
    )
    expected = model.projector.fc1.weight.to(torch.bfloat16).float()
    torch.testing.assert_close(loaded.projector.fc1.weight, expected, rtol=0, atol=0)


def test_shards(folder):
    whole = load_checkpoint(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / shard)
    index = {"weight_map": {name: shard for shard, part in shards.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    batch = random_batch(CONFIG, [5])
    expected = whole.model.forward_train(*batch).logits
    got = load_checkpoint(folder).model.forward_train(*batch).logits
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks the shards \['b.safetensors'\]"):
        load_checkpoint(folder)


def test_fingerprint_follows_the_content(folder, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy") / "checkpoint"
    shutil.copytree(folder, copy)
    assert fingerprint(copy) == fingerprint(folder)
    edit_weights(copy, lambda tensors: tensors["projector.fc1.bias"].add_(1.0))
    assert fingerprint(copy) != fingerprint(folder)


def test_every_misfit_is_listed(folder):
    def spoil(tensors):
        tensors["language_model.model.extra.weight"] = torch.zeros(1)
        del tensors["projector.fc1.bias"]
        del tensors["language_model.model.layers.0.self_attn.k_proj.weight"]
        tensors["projector.fc3.bias"] = torch.zeros(31)

    edit_weights(folder, spoil)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder)
    lines = str(error.value).split("\n  ")
    assert lines[0].endswith("4 tensors do not fit the config:")
    assert lines[1:] == [
        "missing language_model.model.layers.0.self_attn.k_proj.weight",
        "missing projector.fc1.bias",
        "projector.fc3.bias is (31,), the config says (32,)",
        "unexpected language_model.model.extra.weight",
    ]


def test_what_openvla_never_runs_may_be_there(folder):
    """Only that: a block beyond the tower's depth is as unexpected as any other name."""

    def add(name):
        return lambda tensors: tensors.update({f"vision_backbone.{name}": torch.zeros(1)})

    edit_weights(folder, add("fused_featurizer.attn_pool.q.weight"))
    load_checkpoint(folder)
    edit_weights(folder, add("featurizer.blocks.1.norm1.weight"))
    with pytest.raises(CheckpointError, match=r"unexpected vision_backbone.featurizer.blocks.1"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint folder .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights(folder, share):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"[]", b"\x00\xff" * 50, b'{"model_type": '])
def test_a_corrupt_file_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["heisd"].update(proprio_size="three"), "proprio_size is 'three'"),
        (lambda c: c["heisd"]["towers"][0].update(heads=3), "no multiple of heads 3"),
        (lambda c: c["text_config"].update(hidden_size=64), "the config says"),
        (lambda c: c.update(text_config=[]), "config.json"),
        (lambda c: c["norm_stats"]["small"].pop("action"), "action"),
        (lambda c: c["norm_stats"]["small"]["action"].pop("q01"), "lack 'q01'"),
    ],
)
def test_a_wrong_config_is_explained(folder, change, message):
    edit_config(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_statistics_are_chosen_by_name(folder):
    with pytest.raises(UnknownStatisticsError, match=r"no statistics 'bridge'; .* \['small'\]"):
        load_checkpoint(folder, statistics_key="bridge")
    edit_config(folder, lambda c: c["norm_stats"].update(other=c["norm_stats"]["small"]))
    with pytest.raises(UnknownStatisticsError, match=r"no statistics key was chosen.*'other'"):
        load_checkpoint(folder)
    assert load_checkpoint(folder, statistics_key="other").statistics_key == "other"


def test_statistics_of_a_fine_tune_stand_beside_the_config(folder):
    """Upstream's file; of several names in the config the one in the file is meant."""
    edit_config(folder, lambda c: c["norm_stats"].update(other=c["norm_stats"]["small"]))
    fine = {"libero_spatial_no_noops": {"action": {"q01": [-3.0] * 7, "q99": [3.0] * 7}}}
    (folder / "dataset_statistics.json").write_text(json.dumps(fine))
    vla = load_checkpoint(folder)
    assert vla.statistics_key == "libero_spatial_no_noops"
    assert vla.statistics[vla.statistics_key].q99 == (3.0,) * 7
    assert statistics_of(folder) == ["small", "other", "libero_spatial_no_noops"]
    assert load_checkpoint(folder, statistics_key="small").statistics_key == "small"
    (folder / "dataset_statistics.json").write_text('{"broken": {"action": {"q01": []}}}')
    with pytest.raises(
        CheckpointError, match=r"dataset_statistics\.json: action statistics: .*q99"
    ):
        load_checkpoint(folder)


def test_a_checkpoint_without_statistics_says_so(folder):
    edit_config(folder, lambda c: c.pop("norm_stats"))
    with pytest.raises(UnknownStatisticsError, match="the checkpoint has none"):
        load_checkpoint(folder)


def test_numbers_that_are_no_floats_are_refused(folder):
    edit_weights(
        folder,
        lambda t: t.update({"projector.fc1.bias": torch.zeros(40, dtype=torch.int8)}),
    )
    with pytest.raises(CheckpointError, match=r"projector.fc1.bias is of type I8; BF16, F16"):
        load_checkpoint(folder)


def test_a_tensor_in_two_shards_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "a.safetensors")
    save_file({"projector.fc1.bias": torch.zeros(40)}, folder / "b.safetensors")
    index = {**dict.fromkeys(tensors, "a.safetensors"), "projector.fc1.bias": "b.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(CheckpointError, match=r"both hold projector\.fc1\.bias"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["../other.safetensors", "/tmp/other.safetensors"])
def test_a_shard_outside_the_folder_is_refused(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="accepted: files of the folder itself"):
        load_checkpoint(folder)


def test_pickled_weights_are_named(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"\['pytorch_model.bin'\] must be saved as safetens"):
        load_checkpoint(folder)


def test_a_device_without_room_is_named(folder, monkeypatch):
    def full(self, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(torch.nn.Module, "to_empty", full)
    with pytest.raises(DeviceMemoryError, match="cpu has no memory left for the model's weights"):
        load_checkpoint(folder)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="shapes"), device_memory_errors("cpu", "anything"):
        raise RuntimeError("shapes do not match")
    with (
        pytest.raises(DeviceMemoryError, match="for a step"),
        device_memory_errors("cpu", "a step"),
    ):
        torch.empty(2**60)


def test_nothing_is_allocated_for_a_checkpoint_that_does_not_fit(folder, monkeypatch):
    edit_weights(folder, lambda tensors: tensors.pop("projector.fc1.bias"))
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda *a, **k: pytest.fail("allocated"))
    with pytest.raises(CheckpointError, match="missing projector"):
        load_checkpoint(folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_named(folder, number):
    edit_weights(folder, lambda t: t["projector.fc1.bias"].__setitem__(3, number))
    with pytest.raises(CheckpointError, match=r"projector\.fc1\.bias holds numbers that are not"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("action_head--150000_checkpoint.pt", "a regression or diffusion head"),
        ("noisy_action_projector--latest_checkpoint.pt", "a part of a diffusion head"),
        ("proprio_projector--150000_checkpoint.pt", "the input of joint states"),
        ("vision_backbone--150000_checkpoint.pt", "with FiLM"),
        ("latest_action_head_checkpoint.pth", "a regression or diffusion head"),
    ],
)
def test_parts_of_another_kind_of_model_are_named(folder, name, what):
    (folder / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match=rf"holds {name}: .*{what}.* do not run here"):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match=name):  # what db build and calibrate ask for
        fingerprint(folder)


@pytest.mark.parametrize("key", ["use_l1_regression", "use_diffusion", "action_model_type"])
def test_a_config_of_another_kind_of_model_is_named(folder, key):
    edit_config(folder, lambda c: c.update({key: True}))
    with pytest.raises(CheckpointError, match=rf"{key} is True; .* does not run here"):
        load_checkpoint(folder)
    edit_config(folder, lambda c: c.update({key: False}))
    load_checkpoint(folder)


def test_a_run_of_openvla_s_own_trainer_names_what_converts_it(folder):
    (folder / "checkpoints").mkdir()
    (folder / "model.safetensors").rename(folder / "checkpoints" / "latest-checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"checkpoints/\*\.pt is in the trainer's own format"):
        load_checkpoint(folder)


def test_one_file_of_weights_beside_an_index_of_others_is_two_models(folder):
    index = {"weight_map": {"a": "other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="two models; remove the one that is not meant"):
        load_checkpoint(folder)
    index = {"weight_map": {"a": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    load_checkpoint(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "model.safetensors", "dataset_statistics.json"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_plain_file_is_named_at_once(folder, name, kind):
    path = folder / name
    path.unlink(missing_ok=True)
    {"pipe": os.mkfifo, "device": lambda p: p.symlink_to("/dev/zero"), "folder": Path.mkdir}[kind](
        path
    )
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read: it is a"):
        load_checkpoint(folder)


def test_links_are_followed_as_a_download_cache_has_them(folder, tmp_path_factory):
    links = tmp_path_factory.mktemp("snapshot")
    for path in folder.iterdir():
        (links / path.name).symlink_to(path)
    assert fingerprint(links) == fingerprint(folder)
    load_checkpoint(links)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (
            lambda c: c["text_config"].update(num_hidden_layers=10**6),
            "num_hidden_layers is 1000000",
        ),
        (lambda c: c["text_config"].update(max_position_embeddings=10**10), "max_position_embed"),
        (lambda c: c["text_config"].update(vocab_size=2**40), "vocab_size is 1099511627776"),
        (lambda c: c["text_config"].update(rope_theta="x"), "text_config.rope_theta is 'x'; accep"),
        (lambda c: c["heisd"]["towers"][0].update(depth=10**6), "tower depth is 1000000"),
        (lambda c: c["heisd"]["towers"][1].update(image_size=10**6), "tower image_size is 1000000"),
        (
            lambda c: c["heisd"].update(views=[f"{i}" for i in range(10**5)]),
            "views are .* 16 at mo",
        ),
        (
            lambda c: c["heisd"].update(views="agentview"),
            "heisd.views is 'agentview'; accepted: a l",
        ),
        (
            lambda c: c["heisd"].update(prompt="{instruction} {instruction.x}"),
            "prompt .* has braces",
        ),
        (lambda c: c["heisd"].update(prompt="{instruction:>9999999}"), "prompt .*lacks"),
        (lambda c: c["heisd"].update(control_rate_hz=float("nan")), "heisd.control_rate_hz is nan"),
        (lambda c: c.update(pad_token_id=[1]), r"pad_token_id is \[1\]; accepted: a whole number"),
        (lambda c: c.update(norm_stats=[1]), "a set of action statistics is .*accepted: a mapping"),
    ],
)
def test_a_size_or_type_out_of_reason_is_named_before_anything_is_made(folder, change, key):
    edit_config(folder, change)
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{key}") as error:
        load_checkpoint(folder)
    assert len(str(error.value)) < 1000 and "\n" not in str(error.value)


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["more"] = 9999
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has .* token ids; accepted: 1 to"):
        load_checkpoint(folder)

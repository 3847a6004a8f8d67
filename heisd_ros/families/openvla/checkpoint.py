"""OpenVLA's checkpoint folders, as Hugging Face lays them out, and ours: loading and saving."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from heisd_ros.errors import CheckpointError
from heisd_ros.families.action_statistics import chosen
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.openvla.action_tokens import ActionStatistics
from heisd_ros.families.openvla.config import VLAConfig
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.files.atomic import replacing
from heisd_ros.files.bounded import shown
from heisd_ros.files.typed import typed
from heisd_ros.vla.checkpoint_files import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    CheckpointFiles,
    fingerprint,
    read_json,
)
from heisd_ros.vla.load_weights import load_weights, without_memory
from heisd_ros.vla.tensor_files import write_tensors
from heisd_ros.vla.tokenizer import read_tokenizer

__all__ = ["fingerprint", "load_checkpoint", "save_checkpoint", "statistics_of"]


def load_checkpoint(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    statistics_key: str | None = None,
    *,
    convention: DataConvention | None = None,
    any_statistics: bool = False,
    kind: Callable[..., VLA] = VLA,
) -> VLA:
    """Load OpenVLA's checkpoint folder, or ours.

    Args:
        folder: holds config.json, tokenizer.json and model.safetensors or its shards and index;
            a LoRA adapter in or below it is merged. Or an adapter's own folder, see
            `CheckpointFiles.find`.
        device: where the model goes.
        dtype: what the weights become, whatever they are on disk.
        statistics_key: which statistics un-normalise actions (None: the only ones, where
            dataset_statistics.json is there the only ones in it).
        convention: what stands between the model and its environment (None: nothing).
        any_statistics: take the first if the choice is ambiguous, for callers that do not act.
        kind: makes the model; is called as `VLA` is.

    Raises:
        CheckpointError: naming the file and everything that is wrong with it.
        UnknownStatisticsError: no such statistics.
        DeviceMemoryError: the device has no room.
    """
    files = CheckpointFiles.find(folder)
    raw = read_json(files.config)
    config = _read_config(files, raw)
    if convention is not None:
        config = replace(config, views=convention.named(config.views))
    statistics, key = choose_statistics(files, raw, statistics_key, any_statistics)
    tokenizer = read_tokenizer(files.tokenizer)
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    if not 0 < size <= config.language.vocab_size:
        raise CheckpointError(
            f"{files.tokenizer} has {size} token ids; accepted: 1 to {config.language.vocab_size}, "
            f"the vocab_size of {files.config}"
        )
    # Built without memory, then allocated once where and as what it is wanted: a 7B model needs
    # neither a random initialisation nor a float32 copy.
    with without_memory():
        model = VLAModel(config).to(dtype)
    unused = model.vision_backbone.unused_prefixes()
    load_weights(model, files, torch.device(device), unused)
    if torch.device(device).type == "cpu":
        model.arrange_for_cpu()
    return kind(model, tokenizer, statistics, key, convention)


def save_checkpoint(
    folder: str | Path,
    model: VLAModel,
    tokenizer: Tokenizer,
    statistics: Mapping[str, ActionStatistics],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a folder that `load_checkpoint` reads.

    Each file is written atomically; files of other names in the folder stay.

    Args:
        folder: made if it doesn't exist.
        model: its config and weights are saved.
        tokenizer: the text side.
        statistics: action statistics by name.
        dtype: type of the weights on disk (None: as they are); buffers keep theirs.
    """
    folder = Path(folder)
    buffers = {name for name, _ in model.named_buffers()}  # units of the robot: never rounded
    tensors = {
        name: tensor.to("cpu", tensor.dtype if name in buffers else dtype)
        for name, tensor in model.state_dict().items()
    }
    norm_stats = {key: {"action": value.to_dict()} for key, value in statistics.items()}
    config = {**model.config.to_dict(), "norm_stats": norm_stats}
    # Replaced from the last to the first: the config, by which a folder is recognised, at the end.
    with (
        replacing(folder / CONFIG) as config_file,
        replacing(folder / TOKENIZER) as text_side,
        replacing(folder / WEIGHTS) as weights,
    ):
        write_tensors(weights, tensors)
        tokenizer.save(str(text_side))
        config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def statistics_of(folder: str | Path) -> list[str]:
    """Returns the names of a checkpoint's action statistics.

    Raises:
        CheckpointError: its config or statistics are missing or damaged.
    """
    files = CheckpointFiles.find(folder)
    return list(_read_statistics(files, read_json(files.config))[0])


def _read_config(files: CheckpointFiles, raw: Mapping[str, Any]) -> VLAConfig:
    preprocessor = None if files.preprocessor is None else read_json(files.preprocessor)
    try:
        return VLAConfig.from_dict(raw, preprocessor)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{files.config}: {error}") from error


def choose_statistics(
    files: CheckpointFiles, raw: Mapping[str, Any], key: str | None, any_statistics: bool
) -> tuple[dict[str, ActionStatistics], str]:
    """Reads all statistics, and chooses those in use; arguments as in `load_checkpoint`."""
    statistics, newest = _read_statistics(files, raw)
    if key is None and len(newest) == 1 and not any_statistics:
        key = next(iter(newest))
    return statistics, chosen(statistics, key, any_statistics=any_statistics)


def _read_statistics(
    files: CheckpointFiles, raw: Mapping[str, Any]
) -> tuple[dict[str, ActionStatistics], dict[str, ActionStatistics]]:
    """Reads all statistics, and those of the newest training."""
    statistics = _parse_statistics(files.config, raw.get("norm_stats") or {})
    if files.statistics is None:
        return statistics, statistics
    newest = _parse_statistics(files.statistics, read_json(files.statistics))
    return {**statistics, **newest}, newest


def _parse_statistics(path: Path, content: Any) -> dict[str, ActionStatistics]:
    try:
        sets = typed(dict[str, dict[str, Any]], content, "a set of action statistics")
        without = [
            name for name, value in sets.items() if not isinstance(value.get("action"), dict)
        ]
        if without:
            raise ValueError(f"{shown(without)} have no object 'action'")
        return {name: ActionStatistics.from_dict(value["action"]) for name, value in sets.items()}
    except ValueError as error:
        raise CheckpointError(f"{path}: action statistics: {error}") from error

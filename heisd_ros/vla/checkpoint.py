"""Checkpoint folders: ``config.json``, safetensors (one file or shards) and ``tokenizer.json``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from heisd_ros.errors import CheckpointError
from heisd_ros.vla.actions import ActionStatistics
from heisd_ros.vla.config import VLAConfig
from heisd_ros.vla.model import VLAModel
from heisd_ros.vla.vla import VLA

CONFIG, PREPROCESSOR, TOKENIZER = "config.json", "preprocessor_config.json", "tokenizer.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def load_checkpoint(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    statistics_key: str | None = None,
) -> VLA:
    """Load OpenVLA's checkpoint folder, or ours.

    Args:
        folder: holds config.json, tokenizer.json and model.safetensors or its shards and index.
        device: where the model goes.
        dtype: what the weights become, whatever they are on disk.
        statistics_key: which ``norm_stats`` un-normalise actions (None: the only ones).

    Raises:
        CheckpointError: naming the file and everything that is wrong with it.
        UnknownStatisticsError: no such statistics.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder {folder}")
    raw = _read_json(folder / CONFIG)
    preprocessor = _read_json(folder / PREPROCESSOR) if (folder / PREPROCESSOR).exists() else None
    try:
        config = VLAConfig.from_dict(raw, preprocessor)
        statistics = {
            key: ActionStatistics.from_dict(value["action"])
            for key, value in raw.get("norm_stats", {}).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
    tokenizer = _read_tokenizer(folder / TOKENIZER)
    files = weight_files(folder)
    # Built without memory, then allocated once where and as what it is wanted: a 7B model needs
    # neither a random initialisation nor a float32 copy.
    with torch.device("meta"):
        model = VLAModel(config).to(dtype)
    model.to_empty(device=device).requires_grad_(False)
    _fill(model, files)
    if torch.device(device).type == "cpu":
        model.language_model.store_columns()
    return VLA(model, tokenizer, statistics, statistics_key)


def save_checkpoint(
    folder: str | Path,
    model: VLAModel,
    tokenizer: Tokenizer,
    statistics: Mapping[str, ActionStatistics],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a folder that `load_checkpoint` reads.

    Each file appears whole or not at all; files of other names in the folder stay.

    Args:
        folder: made if it doesn't exist.
        model: its config and weights are saved.
        tokenizer: the text side.
        statistics: action statistics by name.
        dtype: type of the weights on disk (None: as they are); buffers keep theirs.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    buffers = {name for name, _ in model.named_buffers()}  # units of the robot: never rounded
    # Cloned, because parts of fused weights share memory, which safetensors refuses.
    tensors = {
        name: tensor.to("cpu", tensor.dtype if name in buffers else dtype).clone().contiguous()
        for name, tensor in model.state_dict().items()
    }
    norm_stats = {key: {"action": value.to_dict()} for key, value in statistics.items()}
    config = {**model.config.to_dict(), "norm_stats": norm_stats}
    partial = {name: folder / f".{name}.partial" for name in (WEIGHTS, TOKENIZER, CONFIG)}
    save_file(tensors, partial[WEIGHTS], metadata={"format": "pt"})
    tokenizer.save(str(partial[TOKENIZER]))
    partial[CONFIG].write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name, path in partial.items():
        os.replace(path, folder / name)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint.

    Raises:
        CheckpointError: there are none, or the index names one that is missing.
    """
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {INDEX}")
    index = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CheckpointError(f"{folder / INDEX} has no weight_map")
    names = sorted(set(index.values()))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise CheckpointError(f"{folder} lacks the shards {missing} that {INDEX} names")
    return [folder / name for name in names]


def fingerprint(folder: str | Path) -> str:
    """sha256 over config, tokenizer and weights: two folders with one fingerprint act alike."""
    digest = hashlib.sha256()
    folder = Path(folder)
    for path in [folder / CONFIG, folder / TOKENIZER, *weight_files(folder)]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _fill(model: VLAModel, files: list[Path]) -> None:
    """Copy every tensor of the files into the model, or raise one error that lists all misfits."""
    wanted: dict[str, Tensor] = model.state_dict()
    unused = _unused_prefixes(model)
    found: set[str] = set()
    problems: list[str] = []
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  # safe_open is no mapping
                    if name not in wanted:
                        if not name.startswith(unused) and not name.endswith("rotary_emb.inv_freq"):
                            problems.append(f"unexpected {name}")
                        continue
                    found.add(name)
                    shape = tuple(file.get_slice(name).get_shape())
                    if shape != tuple(wanted[name].shape):
                        expected = tuple(wanted[name].shape)
                        problems.append(f"{name} is {shape}, the config says {expected}")
                        continue
                    wanted[name].copy_(file.get_tensor(name))
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read (truncated?): {error}") from error
    problems += [f"missing {name}" for name in wanted if name not in found]
    if problems:
        listing = "\n  ".join(sorted(problems))
        raise CheckpointError(
            f"{files[0].parent}: {len(problems)} tensors do not fit the config:\n  {listing}"
        )


def _unused_prefixes(model: VLAModel) -> tuple[str, ...]:
    """What checkpoints hold and this architecture never reads."""
    backbone = model.vision_backbone
    towers = {"featurizer": backbone.featurizer, "fused_featurizer": backbone.fused_featurizer}
    return tuple(
        f"vision_backbone.{name}.{prefix}"
        for name, tower in towers.items()
        for prefix in tower.unused_prefixes()
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; an object is needed")
    return content


def _read_tokenizer(path: Path) -> Tokenizer:
    if not path.exists():
        raise CheckpointError(f"{path} is missing")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the bindings raise bare Exception
        raise CheckpointError(f"{path} is no tokenizer: {error}") from error

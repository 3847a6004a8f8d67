"""Opening a folder of NORA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from heisd_ros.errors import CheckpointError
from heisd_ros.families.action_statistics import chosen
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.fast import FastTokenizer
from heisd_ros.families.library import load_network, tried
from heisd_ros.families.nora.codec import DIMENSIONS, NoraCodec
from heisd_ros.families.nora.model import Nora
from heisd_ros.families.nora.preprocessing import PREPROCESSOR, Patches, prompt_ids
from heisd_ros.files.bounded import expanded, read_object
from heisd_ros.files.checks import require_whole
from heisd_ros.files.typed import typed
from heisd_ros.vla.action_codec import MOST_ACTIONS, MOST_TOKENS
from heisd_ros.vla.checkpoint_files import CONFIG, TOKENIZER, refuse_adapters, weight_files
from heisd_ros.vla.generation import GENERATION, GenerationRules
from heisd_ros.vla.language_config import MOST_LAYERS, MOST_WIDTH
from heisd_ros.vla.tokenizer import read_tokenizer

MODEL_TYPE = "qwen2_5_vl"
STATISTICS, FAST = "norm_stats.json", "fast"
_SIZES = {
    **dict.fromkeys(("num_hidden_layers", "depth"), MOST_LAYERS),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "num_heads"), MOST_WIDTH),
    **dict.fromkeys(("hidden_size", "intermediate_size", "out_hidden_size"), MOST_WIDTH),
    **dict.fromkeys(("patch_size", "temporal_patch_size", "spatial_merge_size"), 64),
    **dict.fromkeys(("in_channels", "in_chans"), 3),
    "vocab_size": 1 << 20,
}
"""The largest value of each size of the config."""
_FIRST, _LAST = "<robot_action_0>", "<robot_action_2047>"


@dataclass(frozen=True)
class NoraSettings:
    """What upstream's files do not state: the section ``heisd`` of ``config.json``.

    Attributes:
        horizon: actions of an answer: 1 for NORA, 5 for NORA-Long.
        max_new_tokens: tokens of an answer, at most (None: as ``generation_config.json`` says; 20
            where it is silent, which a chunk of 5 can exceed).
        control_rate_hz: rate at which the policy was demonstrated, Hz (None: unknown).
    """

    horizon: int = 1
    max_new_tokens: int | None = None
    control_rate_hz: float | None = None

    def __post_init__(self) -> None:
        for name, most in (("horizon", MOST_ACTIONS), ("max_new_tokens", MOST_TOKENS)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise ValueError(f"{name} is {value}; accepted: 1 to {most}")


def load_checkpoint(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    statistics_key: str | None = None,
    *,
    convention: DataConvention | None = None,
    any_statistics: bool = False,
    settings: NoraSettings | None = None,
) -> Nora:
    """Loads a folder of NORA, as `families.checkpoint` does.

    It holds ``norm_stats.json`` too, and the files of ``physical-intelligence/fast`` in ``fast/``.
    `settings` are taken instead of the section ``heisd`` of ``config.json``.
    """
    folder = expanded(folder)
    refuse_adapters(folder)
    raw = read_object(folder / CONFIG, CheckpointError)
    try:
        ours = settings or typed(NoraSettings, raw.get("heisd", {}), "heisd")
        for part in (raw, raw.get("text_config"), raw.get("vision_config")):
            _check_sizes(part or {})
        config = Qwen2_5_VLConfig.from_dict({k: v for k, v in raw.items() if k != "heisd"})
    except Exception as error:  # the library's checks raise classes of their own
        raise CheckpointError(f"{folder / CONFIG}: {' '.join(str(error).split())}") from error
    if not (folder / FAST).is_dir():
        raise CheckpointError(
            f"{folder} has no folder {FAST!r}: download physical-intelligence/fast into it"
        )
    fast = FastTokenizer.read(folder / FAST)
    tokenizer = read_tokenizer(folder / TOKENIZER)
    actions = _action_ids(folder / TOKENIZER, tokenizer, config.get_text_config().vocab_size)
    key, low, high = _quantiles(folder / STATISTICS, statistics_key, any_statistics)
    patches, rules = Patches.read(folder), GenerationRules.read(folder)
    _check_patches(folder, patches, config.vision_config)
    if not rules.stop_ids:
        raise CheckpointError(f"{folder / GENERATION} names no eos_token_id, which ends an answer")
    blank = prompt_ids(tokenizer, "", patches.tokens**2)
    if blank.count(config.image_token_id) != patches.tokens**2:
        raise CheckpointError(
            f"{folder / CONFIG}: image_token_id is {config.image_token_id}, which stands "
            f"{blank.count(config.image_token_id)} times in a prompt; accepted: the id of the "
            f"{patches.tokens**2} visual tokens"
        )
    network = load_network(
        Qwen2_5_VLForConditionalGeneration,
        config,
        weight_files(folder),
        _rename,
        torch.device(device),
        dtype,
    )
    codec = NoraCodec(
        fast,
        low,
        high,
        ours.horizon,
        actions,
        rules.stop_ids,
        ours.max_new_tokens or min(rules.room(len(blank)), MOST_TOKENS),
        convention,
    )
    assert isinstance(network, Qwen2_5_VLForConditionalGeneration)
    model = Nora(
        network,
        tokenizer,
        patches,
        codec,
        rules.repetition_penalty,
        ours.control_rate_hz,
        statistics_of(folder),
        key,
    )
    return tried(model, folder)


def statistics_of(folder: str | Path) -> list[str]:
    """Returns the names of a checkpoint's action statistics.

    Raises:
        CheckpointError: their file is missing or damaged.
    """
    return sorted(read_object(expanded(folder) / STATISTICS, CheckpointError))


def _rename(name: str) -> str:
    """Maps a tensor's name, as saved by transformers 4 or 5, to the library's."""
    if name.startswith("visual."):
        return f"model.{name}"
    if name.startswith("model.") and not name.startswith(
        ("model.visual.", "model.language_model.")
    ):
        return f"model.language_model.{name.removeprefix('model.')}"
    return name


def _check_sizes(config: Any) -> None:
    """Raises ValueError if no network can be built with a size."""
    for name, value in typed(dict[str, Any], config, "a part of the config").items():
        if name in _SIZES:
            require_whole(name, value, most=_SIZES[name])


def _check_patches(folder: Path, patches: Patches, vision: Any) -> None:
    """Raises CheckpointError unless pictures are cut as the network takes them."""
    cut = patches.patch, patches.merge, patches.frames
    taken = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    if cut != taken:
        raise CheckpointError(
            f"{folder / PREPROCESSOR}: patch_size, merge_size and temporal_patch_size are {cut}; "
            f"accepted: {taken}, as in {CONFIG}"
        )


def _action_ids(path: Path, tokenizer: Tokenizer, vocabulary: int) -> range:
    first, last = tokenizer.token_to_id(_FIRST), tokenizer.token_to_id(_LAST)
    if first is None or last is None or not first < last < vocabulary:
        raise CheckpointError(
            f"{path}: {_FIRST} is {first}, {_LAST} is {last}; accepted: ids in a row, below the "
            f"vocab_size {vocabulary}"
        )
    return range(first, last + 1)


def _quantiles(
    path: Path, key: str | None, any_statistics: bool
) -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
    """Returns the name of the chosen statistics, and their lower and upper quantile [7]."""
    content: Mapping[str, Any] = read_object(path, CheckpointError)
    key = chosen(content, key, path, any_statistics=any_statistics)
    try:
        sets = typed(dict[str, dict[str, Any]], {key: content[key]}, "the statistics")
        action = typed(dict[str, Any], sets[key].get("action"), f"{key}.action")
        low, high = (
            np.array(typed(tuple[float, ...], action.get(name), f"{key}.action.{name}"))
            for name in ("q01", "q99")
        )
        if low.shape != (DIMENSIONS,) or high.shape != (DIMENSIONS,) or (low > high).any():
            raise ValueError(
                f"{key}.action: q01 {low.tolist()}, q99 {high.tolist()}; {DIMENSIONS} numbers each "
                "are needed, none above the other"
            )
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return key, low, high

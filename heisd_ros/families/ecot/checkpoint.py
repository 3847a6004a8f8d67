"""Opening a folder of ECoT."""

from __future__ import annotations

from pathlib import Path

import torch

from heisd_ros.errors import CheckpointError
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.ecot.codec import EcotCodec
from heisd_ros.families.ecot.config import MAX_TOKENS, EcotConfig
from heisd_ros.families.ecot.model import Ecot
from heisd_ros.families.ecot.network import EcotNetwork
from heisd_ros.families.ecot.own import OwnEcot
from heisd_ros.families.openvla.checkpoint import choose_statistics
from heisd_ros.families.openvla.checkpoint import load_checkpoint as load_own
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.vla.checkpoint_files import CheckpointFiles, read_json
from heisd_ros.vla.generation import GENERATION, GenerationRules
from heisd_ros.vla.load_weights import load_weights, without_memory
from heisd_ros.vla.tokenizer import read_tokenizer


def load_checkpoint(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    statistics_key: str | None = None,
    *,
    convention: DataConvention | None = None,
    any_statistics: bool = False,
    max_tokens: int | None = None,
) -> Ecot | VLA:
    """Loads a folder of ECoT, or of a small model of `own`, as `families.checkpoint` does.

    An answer has at most `max_tokens` (None: as the files say, 1024 where they are silent).
    """
    files = CheckpointFiles.find(folder)
    raw = read_json(files.config)
    if raw.get("use_fused_vision_backbone") is not False:
        return load_own(
            folder, device, dtype, statistics_key,
            convention=convention, any_statistics=any_statistics, kind=OwnEcot,
        )  # fmt: skip
    rules = GenerationRules.read(files.config.parent)
    if rules.repetition_penalty != 1.0 or not rules.stop_ids:
        raise CheckpointError(
            f"{files.config.parent / GENERATION}: repetition_penalty {rules.repetition_penalty}, "
            f"eos_token_id {sorted(rules.stop_ids)}; accepted: no penalty, and an id"
        )
    try:
        preprocessor = {} if files.preprocessor is None else read_json(files.preprocessor)
        config = EcotConfig.from_dict(raw, preprocessor)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{files.config}: {error}") from error
    statistics, key = choose_statistics(files, raw, statistics_key, any_statistics)
    tokenizer = read_tokenizer(files.tokenizer)
    codec = EcotCodec(
        config.real_vocab_size,
        max_tokens or min(config.max_tokens, rules.max_new_tokens or MAX_TOKENS),
        rules.stop_ids,
        tokenizer,
        statistics[key],
        convention or DataConvention(),
    )
    with without_memory():
        model = EcotNetwork(config, codec).to(dtype)
    load_weights(model, files, torch.device(device), model.unused_prefixes())
    if torch.device(device).type == "cpu":
        model.arrange_for_cpu()
    return Ecot(model, tokenizer, codec, [*statistics], key)

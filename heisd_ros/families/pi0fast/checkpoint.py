"""Opening the folder of a ``pi0_fast`` policy."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    GemmaConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SiglipVisionConfig,
)

from heisd_ros.errors import CheckpointError, UnknownStatisticsError
from heisd_ros.families.data_convention import DataConvention
from heisd_ros.families.fast import FastTokenizer
from heisd_ros.families.library import load_network, tried
from heisd_ros.families.pi0fast.codec import Pi0FastCodec
from heisd_ros.families.pi0fast.config import POSTPROCESSOR, PREPROCESSOR, Pi0FastConfig
from heisd_ros.families.pi0fast.config import processor_step as step_of
from heisd_ros.families.pi0fast.model import Pi0Fast
from heisd_ros.families.pi0fast.normalisation import Normalisation, mode_of
from heisd_ros.files.bounded import expanded
from heisd_ros.vla.checkpoint_files import refuse_adapters, weight_files
from heisd_ros.vla.tokenizer import read_tokenizer

_ABOVE = "model.paligemma_with_expert.paligemma."


def load_checkpoint(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    statistics_key: str | None = None,
    *,
    convention: DataConvention | None = None,
    any_statistics: bool = False,
) -> Pi0Fast:
    """Loads a policy, as `families.checkpoint` does.

    The folder is what LeRobot's ``save_pretrained`` wrote, both pipelines included, with the text
    tokenizer in ``tokenizer/`` and the FAST tokenizer in ``action_tokenizer/``, or where
    ``config.json`` names them. `dtype` is of the decoder; the vision tower, the projector and the
    norms stay float32, as in LeRobot. A policy has one set of statistics, which has no name.
    """
    folder = expanded(folder)
    if statistics_key is not None:
        raise UnknownStatisticsError(
            f"no statistics {statistics_key!r}; a pi0-FAST policy has one set, without a name"
        )
    refuse_adapters(folder)
    config = Pi0FastConfig.read(folder)
    _refuse_relative(folder)
    text = _text_tokenizer(folder, config)
    fast = FastTokenizer.read(
        _tokenizer_folder(folder, config.action_tokenizer, "action_tokenizer")
    )
    states, actions = (
        Normalisation.read(
            folder / file, step, feature, mode_of(folder / file, step, kind, config.modes), size
        )
        for file, step, feature, kind, size in (
            (PREPROCESSOR, "normalizer_processor", "observation.state", "STATE", config.state_size),
            (POSTPROCESSOR, "unnormalizer_processor", "action", "ACTION", config.action_size),
        )
    )
    codec = Pi0FastCodec(
        text, fast, actions, config.chunk_size, config.max_tokens, config.skipped, convention
    )
    network = load_network(
        PaliGemmaForConditionalGeneration,
        library_config(config, text.get_vocab_size(with_added_tokens=False)),
        weight_files(folder),
        _rename,
        torch.device(device),
        dtype,
        float32=("vision_tower", "multi_modal_projector", "norm"),
    )
    assert isinstance(network, PaliGemmaForConditionalGeneration)
    return tried(Pi0Fast(network, config, text, codec, states), folder)


def _rename(name: str) -> str:
    """Maps LeRobot's name of a tensor to the library's."""
    return name.removeprefix(_ABOVE).replace("vision_tower.vision_model.", "vision_tower.")


def library_config(config: Pi0FastConfig, vocabulary: int) -> PaliGemmaConfig:
    """Returns the library's config of a policy whose text tokenizer has so many ids."""
    text, vision = config.text, config.vision
    return PaliGemmaConfig(
        text_config=GemmaConfig(
            vocab_size=vocabulary,
            hidden_size=text.width,
            num_hidden_layers=text.depth,
            intermediate_size=text.mlp_dim,
            num_attention_heads=text.num_heads,
            num_key_value_heads=text.num_kv_heads,
            head_dim=text.head_dim,
            tie_word_embeddings=False,
        ),
        vision_config=SiglipVisionConfig(**vars(vision), vision_use_head=False),
        vocab_size=vocabulary,
        hidden_size=text.width,
        projection_dim=text.width,
        tie_word_embeddings=False,
    )


def _text_tokenizer(folder: Path, config: Pi0FastConfig) -> Tokenizer:
    path = _tokenizer_folder(folder, config.text_tokenizer, "tokenizer") / "tokenizer.json"
    tokenizer = read_tokenizer(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if len(tokenizer.encode("").ids) != 1:
        raise CheckpointError(f"{path} puts no <bos> in front of a text; PaliGemma's does")
    return tokenizer


def _tokenizer_folder(folder: Path, name: str, usual: str) -> Path:
    """Returns the folder of a tokenizer: below the policy's folder, never from a hub."""
    named = name and not Path(name).is_absolute()
    for place in (folder / usual, folder / name if named else folder / usual):
        if place.is_dir():
            return place
    raise CheckpointError(
        f"{folder} has no folder {usual!r}: download {name or 'the tokenizer'} into it"
    )


def _refuse_relative(folder: Path) -> None:
    """Raises CheckpointError if actions are differences from the state."""
    for file, name in (
        (PREPROCESSOR, "relative_actions_processor"),
        (POSTPROCESSOR, "absolute_actions_processor"),
    ):
        try:
            content = step_of(folder / file, name)["config"]
        except CheckpointError:
            if not (folder / file).exists():
                raise
            continue  # of an older version, without that step
        if content.get("enabled"):
            raise CheckpointError(
                f"{folder / file}: {name} is enabled; accepted: actions as they are commanded"
            )

"""Finds the files of a checkpoint: in a model's folder, and in that of a LoRA adapter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heisd_ros.errors import CheckpointError
from heisd_ros.files.bounded import check_plain, expanded, read_object, shown
from heisd_ros.files.digest import file_sha256

CONFIG, PREPROCESSOR, TOKENIZER = "config.json", "preprocessor_config.json", "tokenizer.json"
SENTENCEPIECE = "tokenizer.model"
STATISTICS = "dataset_statistics.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_FURTHER = (
    "generation_config.json",
    "norm_stats.json",
    "policy_*processor*",
    "tiny_sizes.json",
    "tokenizer/**/*.json",
    "action_tokenizer/**/*.json",
    "fast/**/*.json",
)
"""Other files of a folder that affect the answers of models of some family."""
_NAMED = ("text_tokenizer_name", "action_tokenizer_name")
"""Keys of pi0-FAST's config whose values may be folders of tokenizers."""

_HEADS = {
    "action_head": "a regression or diffusion head, which makes the actions instead of tokens",
    "noisy_action_projector": "a part of a diffusion head, which makes the actions",
    "proprio_projector": "the input of joint states to the model",
    "vision_backbone": "the vision towers with FiLM, which the instruction modulates",
    "action_model": "CogACT's diffusion model, which makes the actions instead of tokens",
}
"""Parts that fine-tunes save next to the model, by the beginning of the file's name."""
_HEAD = re.compile(rf"({'|'.join(_HEADS)}).*\.(pt|pth|ckpt|bin|safetensors)")


@dataclass(frozen=True)
class CheckpointFiles:
    """The paths of one checkpoint's files.

    Attributes:
        config: sizes and, often, statistics.
        tokenizer: ``tokenizer.json``, or a sentencepiece ``tokenizer.model``.
        weights: safetensors, one file or the shards.
        preprocessor: normalisation constants of images, or None.
        statistics: statistics of a fine-tune, in addition to the config's, or None.
        adapter: folder of the LoRA adapter that belongs to it, or None.
    """

    config: Path
    tokenizer: Path
    weights: tuple[Path, ...]
    preprocessor: Path | None = None
    statistics: Path | None = None
    adapter: Path | None = None

    @classmethod
    def find(cls, folder: str | Path) -> CheckpointFiles:
        """Finds the parts of a checkpoint.

        An adapter may be among the model's own files, in a folder below them, or apart; if apart,
        give its folder or the one above it. In each case its config must name the model's folder.
        Tokenizer, preprocessing and statistics next to an adapter take precedence over the model's.

        Raises:
            CheckpointError: a part is missing, ambiguous or not supported; the message names it.
        """
        folder = expanded(folder)
        if not folder.is_dir():
            raise CheckpointError(f"no checkpoint folder {folder}")
        base, adapter = _model_and_adapter(folder)
        places = list(dict.fromkeys([*([adapter] if adapter else []), folder, base]))
        for place in (*places, *([adapter.parent] if adapter else [])):
            _refuse_heads(place)
        tokenizer = _first(places, TOKENIZER, SENTENCEPIECE)
        for found, name in ((_first([base], CONFIG), CONFIG), (tokenizer, TOKENIZER)):
            if found is None:
                raise CheckpointError(f"{base / name} is missing{_hint(base)}")
        assert tokenizer is not None
        files = cls(
            config=base / CONFIG,
            tokenizer=tokenizer,
            weights=weight_files(base),
            preprocessor=_first(places, PREPROCESSOR),
            statistics=_first(places, STATISTICS),
            adapter=adapter,
        )
        for path in files:
            check_plain(path, CheckpointError)
        return files

    def __iter__(self) -> Iterator[Path]:
        """Iterates over every file that affects the model's answers, in a fixed order."""
        yield from (self.config, self.tokenizer, *self.weights)
        yield from (path for path in (self.preprocessor, self.statistics) if path is not None)
        if self.adapter is not None:
            yield from (self.adapter / ADAPTER_CONFIG, self.adapter / ADAPTER_WEIGHTS)


def read_json(path: Path) -> dict[str, Any]:
    """Reads the object in a JSON file.

    Raises:
        CheckpointError: the file is missing, damaged, or does not hold an object.
    """
    return read_object(path, CheckpointError)


def fingerprint(folder: str | Path) -> str:
    """Returns the SHA-256 over all files that affect answers: equal ones mean equal answers."""
    digest = hashlib.sha256()
    folder = expanded(folder)
    # Families whose files are in subfolders have no tokenizer next to the config.
    apart = (folder / CONFIG).exists() and not _first([folder], TOKENIZER, SENTENCEPIECE)
    base = (folder / CONFIG, *weight_files(folder)) if apart else CheckpointFiles.find(folder)
    named = [f"{name}/**/*.json" for name in _named_folders(folder)]
    further = {path for pattern in (*_FURTHER, *named) for path in folder.glob(pattern)}
    for path in (*base, *sorted(further)):
        digest.update(file_sha256(path))
    return digest.hexdigest()


def _named_folders(folder: Path) -> list[str]:
    """Returns the folders of tokenizers that a config names."""
    if not (folder / CONFIG).is_file():
        return []
    names = [read_json(folder / CONFIG).get(key) for key in _NAMED]
    return [
        name
        for name in names
        if isinstance(name, str) and name and not Path(name).is_absolute()
        if (folder / name).is_dir()
    ]


def refuse_adapters(folder: Path) -> None:
    """Refuses a folder with a LoRA adapter, for families that merge none.

    Raises:
        CheckpointError: there is one, in the folder or one below it.
    """
    for path in (folder / ADAPTER_CONFIG, *sorted(folder.glob(f"*/{ADAPTER_CONFIG}"))):
        if path.exists():
            raise CheckpointError(
                f"{path} is of a LoRA adapter, which is not merged into a model of this family; "
                "accepted: weights that it was merged into, without its files"
            )


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Returns the safetensors files of a model.

    Raises:
        CheckpointError: there are none, the index names one that is missing, or there is a weight
            file as well as an index of others.
    """
    if (folder / WEIGHTS).exists() and not (folder / INDEX).exists():
        return (folder / WEIGHTS,)
    if not (folder / INDEX).exists():
        raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {INDEX}{_hint(folder)}")
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CheckpointError(f"{folder / INDEX} has no weight_map")
    names = sorted(set(map(str, index.values())))
    if (folder / WEIGHTS).exists() and names != [WEIGHTS]:
        raise CheckpointError(
            f"{folder} holds {WEIGHTS} and {INDEX}, which names other files: two models; remove "
            "the one that is not meant"
        )
    elsewhere = [name for name in names if Path(name).name != name]
    if elsewhere:
        raise CheckpointError(
            f"{folder / INDEX} names {shown(elsewhere)}; accepted: files of the folder itself"
        )
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise CheckpointError(f"{folder} lacks the shards {shown(missing)} that {INDEX} names")
    return tuple(folder / name for name in names)


def _model_and_adapter(folder: Path) -> tuple[Path, Path | None]:
    """Returns the folder of the model, and that of the adapter if there is one.

    Weights do not show whether the adapter is merged already: trainers leave an adapter next to
    weights that they merged it into. So its config has to name the base model.
    """
    inside = sorted({path.parent for path in folder.glob("*/adapter_*") if path.is_file()})
    if (folder / ADAPTER_CONFIG).exists():
        adapter = folder
    elif not inside:
        return folder, None
    elif len(inside) == 1:
        adapter = inside[0]
    else:
        names = [path.name for path in inside]
        raise CheckpointError(f"{folder} holds the adapters {names}: give the folder of one")
    return _model_of(adapter, folder), adapter


def _model_of(adapter: Path, given: Path) -> Path:
    """Returns the model folder that an adapter's config names; `given` if that has weights."""
    config = adapter / ADAPTER_CONFIG
    named = read_json(config).get("base_model_name_or_path")
    place = adapter / expanded(named) if isinstance(named, str) and named else None
    if _has_weights(given):
        if place is not None and place.exists() and place.samefile(given):
            return given
        raise CheckpointError(
            f"{given} holds weights, and {config} adapts the model {shown(named)}: trainers leave "
            "an adapter beside weights that it is merged into already. If it is, move it away; if "
            f"not, set base_model_name_or_path in {config} to {given.resolve()}"
        )
    if place is not None and _has_weights(place):
        return place.resolve()
    raise CheckpointError(
        f"{adapter} adapts the model {shown(named)}, which is no folder with weights here: set "
        f"base_model_name_or_path in {config} to the folder of the model that it was trained on"
    )


def _refuse_heads(folder: Path) -> None:
    """Raises CheckpointError if a folder holds parts of a model that does not decode tokens."""
    found = {path.name: match for path in folder.glob("*.*") if (match := _HEAD.search(path.name))}
    if found:
        part = found[min(found)][1]
        names = ", ".join(sorted(found)[:5])
        raise CheckpointError(
            f"{folder} holds {names}: {part} is {_HEADS[part]}. Models with such parts "
            "do not run here; accepted: those whose actions are tokens"
        )


def _hint(folder: Path) -> str:
    """Returns advice on weights in other formats, if a folder holds some."""
    if any(folder.glob("checkpoints/*.pt")):
        return (
            "; checkpoints/*.pt is in the trainer's own format: its repository has a script that "
            "converts it for Hugging Face"
        )
    pickles = sorted(
        path.name for kind in ("bin", "pt", "pth") for path in folder.glob(f"*.{kind}")
    )
    return f"; {pickles} must be saved as safetensors" if pickles else ""


def _has_weights(folder: Path) -> bool:
    return (folder / WEIGHTS).exists() or (folder / INDEX).exists()


def _first(folders: list[Path], *names: str) -> Path | None:
    """Returns the path of the first of these names in the first folder that has one."""
    for folder in folders:
        for name in names:
            if (folder / name).exists():
                return folder / name
    return None

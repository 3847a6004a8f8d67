"""Where the parts of a checkpoint lie: a model's folder, and that of a LoRA adapter to it."""

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
    "tokenizer/*.json",
    "action_tokenizer/*.json",
    "fast/**/*.json",
)
"""What else of a folder decides how a model of some family answers."""

_HEADS = {
    "action_head": "a regression or diffusion head, which makes the actions instead of tokens",
    "noisy_action_projector": "a part of a diffusion head, which makes the actions",
    "proprio_projector": "the input of joint states to the model",
    "vision_backbone": "the vision towers with FiLM, which the instruction modulates",
    "action_model": "CogACT's diffusion model, which makes the actions instead of tokens",
}
"""Parts that fine-tunes save beside the model, by the beginning of the file's name."""
_HEAD = re.compile(rf"({'|'.join(_HEADS)}).*\.(pt|pth|ckpt|bin|safetensors)")


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one checkpoint, each where it was found.

    Attributes:
        config: sizes and, often, statistics.
        tokenizer: ``tokenizer.json``, or a sentencepiece ``tokenizer.model``.
        weights: safetensors, one file or the shards.
        preprocessor: normalisation constants of images; None where there is none.
        statistics: statistics of a fine-tune, beside the config's; None where there is none.
        adapter: folder of the LoRA adapter that belongs to it; None where there is none.
    """

    config: Path
    tokenizer: Path
    weights: tuple[Path, ...]
    preprocessor: Path | None = None
    statistics: Path | None = None
    adapter: Path | None = None

    @classmethod
    def find(cls, folder: str | Path) -> CheckpointFiles:
        """Looks for the parts of a checkpoint.

        An adapter may lie among the model's own files, in one folder below them, or apart: then
        its folder, or the one above it, is the one to give. In each case its config must name the
        model's folder. What lies beside an adapter of tokenizer, preprocessing and statistics
        counts before the model's.

        Raises:
            CheckpointError: naming what is missing, or what cannot be told or does not run here.
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
        """Every file that decides how the checkpoint acts, in one order."""
        yield from (self.config, self.tokenizer, *self.weights)
        yield from (path for path in (self.preprocessor, self.statistics) if path is not None)
        if self.adapter is not None:
            yield from (self.adapter / ADAPTER_CONFIG, self.adapter / ADAPTER_WEIGHTS)


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else.
    """
    return read_object(path, CheckpointError)


def fingerprint(folder: str | Path) -> str:
    """sha256 over all that decides how it acts: two folders with one fingerprint act alike."""
    digest = hashlib.sha256()
    folder = expanded(folder)
    # Families whose files lie in folders of their own have no tokenizer beside the config.
    apart = (folder / CONFIG).exists() and not _first([folder], TOKENIZER, SENTENCEPIECE)
    base = (folder / CONFIG, *weight_files(folder)) if apart else CheckpointFiles.find(folder)
    further = [path for pattern in _FURTHER for path in folder.glob(pattern)]
    for path in (*base, *sorted(further)):
        digest.update(file_sha256(path))
    return digest.hexdigest()


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a model.

    Raises:
        CheckpointError: there are none, or the index names one that is missing, or there are a
            file of weights and an index of others.
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
    """The folder of the model, and that of the adapter if there is one.

    Whether weights are the adapter's base, or have it merged already, cannot be seen in them:
    trainers leave an adapter beside weights that they merged it into. So its config has to say.
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
    """The folder of the model that an adapter's config names; `given` where that has weights."""
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
    """Raises CheckpointError where a folder holds parts of a model that decodes no tokens."""
    found = {path.name: match for path in folder.glob("*.*") if (match := _HEAD.search(path.name))}
    if found:
        part = found[min(found)][1]
        names = ", ".join(sorted(found)[:5])
        raise CheckpointError(
            f"{folder} holds {names}: {part} is {_HEADS[part]}. Models with such parts "
            "do not run here; accepted: those whose actions are tokens"
        )


def _hint(folder: Path) -> str:
    """What to do with weights in other formats, where a folder holds some."""
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
    """The first of these names in the first folder that has one."""
    for folder in folders:
        for name in names:
            if (folder / name).exists():
                return folder / name
    return None

"""Where the parts of a checkpoint lie: a model's folder, and that of a LoRA adapter to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heisd_ros.errors import CheckpointError

CONFIG, PREPROCESSOR, TOKENIZER = "config.json", "preprocessor_config.json", "tokenizer.json"
SENTENCEPIECE = "tokenizer.model"
STATISTICS = "dataset_statistics.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


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
        its folder is the one to give, and its config or the folder above says where the model is.
        What an adapter brings of tokenizer, preprocessing and statistics counts before the model's.

        Raises:
            CheckpointError: naming what is missing.
        """
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise CheckpointError(f"no checkpoint folder {folder}")
        base, adapter = _model_and_adapter(folder)
        places = [base] if adapter in (None, base) else [adapter, base]
        tokenizer = _first(places, TOKENIZER, SENTENCEPIECE)
        for found, name in ((_first([base], CONFIG), CONFIG), (tokenizer, TOKENIZER)):
            if found is None:
                raise CheckpointError(f"{base / name} is missing")
        assert tokenizer is not None
        if adapter is not None and not (adapter / ADAPTER_WEIGHTS).exists():
            raise CheckpointError(f"{adapter / ADAPTER_WEIGHTS} is missing")
        return cls(
            config=base / CONFIG,
            tokenizer=tokenizer,
            weights=weight_files(base),
            preprocessor=_first(places, PREPROCESSOR),
            statistics=_first(places, STATISTICS),
            adapter=adapter,
        )

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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; an object is needed")
    return content


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a model.

    Raises:
        CheckpointError: there are none, or the index names one that is missing.
    """
    if (folder / WEIGHTS).exists():
        return (folder / WEIGHTS,)
    if not (folder / INDEX).exists():
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        hint = f"; {pickles} must be saved as safetensors" if pickles else ""
        raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {INDEX}{hint}")
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CheckpointError(f"{folder / INDEX} has no weight_map")
    names = sorted(set(map(str, index.values())))
    elsewhere = [name for name in names if Path(name).name != name]
    if elsewhere:
        raise CheckpointError(
            f"{folder / INDEX} names {elsewhere}; accepted: files of the folder itself"
        )
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise CheckpointError(f"{folder} lacks the shards {missing} that {INDEX} names")
    return tuple(folder / name for name in names)


def _model_and_adapter(folder: Path) -> tuple[Path, Path | None]:
    """The folder of the model, and that of the adapter if there is one."""
    if (folder / ADAPTER_CONFIG).exists():
        return (folder if _has_weights(folder) else _model_of(folder)), folder
    inside = sorted(path.parent for path in folder.glob(f"*/{ADAPTER_CONFIG}"))
    if len(inside) > 1:
        names = [path.name for path in inside]
        raise CheckpointError(f"{folder} holds the adapters {names}: give the folder of one")
    return folder, inside[0] if inside else None


def _model_of(adapter: Path) -> Path:
    """The model's folder of an adapter that lies apart."""
    named = read_json(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
    places = [adapter / str(named)] if named else []
    for place in (*places, adapter.parent):
        if _has_weights(place):
            return place.resolve()
    raise CheckpointError(
        f"{adapter} adapts the model {named!r}, which is no folder with weights here: put the "
        f"adapter's folder into that of its model, or set base_model_name_or_path in "
        f"{ADAPTER_CONFIG} to that folder"
    )


def _has_weights(folder: Path) -> bool:
    return (folder / WEIGHTS).exists() or (folder / INDEX).exists()


def _first(folders: list[Path], *names: str) -> Path | None:
    """The first of these names in the first folder that has one."""
    for folder in folders:
        for name in names:
            if (folder / name).exists():
                return folder / name
    return None

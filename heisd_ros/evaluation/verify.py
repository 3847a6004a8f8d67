"""Compares a checkpoint with the outputs of another implementation, stage by stage.

What is compared is the family's (`families.stages`). Everything comes from the two folders; what
the reference lacks is reported as not compared, and what upstream fills, zeroes or reads one token
off has to be refused here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from heisd_ros.errors import ReferenceDataError
from heisd_ros.families.checkpoint import family_of, load_checkpoint, modules_of
from heisd_ros.families.comparison import Comparison, equal_or_tied, full_precision
from heisd_ros.families.reference import Reference, ReferenceCase
from heisd_ros.families.stages import Decoded, Stages
from heisd_ros.vla.engine import Engine
from heisd_ros.vla.llama_twin import transformers_twin
from heisd_ros.vla.token_model import TokenModel


def _library(model: TokenModel) -> Engine:
    """Returns the engine that runs the decoder of `transformers`."""
    network = getattr(model, "model", None)  # one of our own
    return model.engine if network is None else transformers_twin(network)


PATHS: dict[str, Callable[[TokenModel], Engine]] = {
    "plain": lambda model: model.with_engine("plain").engine,
    "static": lambda model: model.with_engine("static").engine,
    "compiled": lambda model: model.with_engine("compiled").engine,
    "transformers": _library,
}
"""The engine of a model by the names that `--path` takes, which must all give the same tokens;
EngineError: the model has none such."""


def verify(
    checkpoint: str | Path,
    reference: str | Path,
    *,
    path: str = "plain",
    device: str = "cpu",
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
) -> Iterator[Comparison]:
    """Compares, in the order of the data; whoever iterates may stop at the first failure.

    Args:
        checkpoint: folder of the model.
        reference: folder of ``reference.json``, ``reference.npz`` and the pictures.
        path: of `PATHS`, that decodes.
        device: where the model runs.
        dtypes: ``"float32"`` compares every stage; ``"bfloat16"`` compares tokens.

    Raises:
        ReferenceDataError: the reference cannot be read, or the path is unknown.
        CheckpointError, DeviceMemoryError: the model cannot be loaded.
        EngineError: the model has no engine of that path.
    """
    if path not in PATHS:
        raise ReferenceDataError(f"no decoding path {path!r}; there are {sorted(PATHS)}")
    family, able = family_of(checkpoint), modules_of("stages")
    if family not in able:
        raise ReferenceDataError(f"references of {family} are not read; only of {[*able]}")
    stages: Stages = importlib.import_module(able[family]).FamilyStages(Reference.load(reference))
    for dtype in dtypes:
        loaded: tuple[dict[str, Any], TokenModel, Engine] | None = None
        for case in stages.reference.cases:
            options = stages.options(case)
            if loaded is None or loaded[0] != options:
                model = _load(checkpoint, device, dtype, options)
                loaded = options, model, PATHS[path](model)
            _, model, engine = loaded
            if dtype == "float32":
                with full_precision():
                    yield from _compare(stages, model, case, engine)
                continue
            expected = stages.low_precision(case)
            stage = "tokens in bfloat16"
            if expected is None:
                yield Comparison(case.name, stage, "not in the reference", "", None)
                continue
            tokens = _decode(stages, model, case, engine).tokens
            exact = partial(_exact, stages, checkpoint, device, case, path)
            yield equal_or_tied(case, stage, expected, tokens, exact)
    yield from stages.left_out()


def _load(checkpoint: str | Path, device: str, dtype: str, options: dict[str, Any]) -> TokenModel:
    return load_checkpoint(checkpoint, device, getattr(torch, dtype), **options)


@torch.inference_mode()
def _compare(
    stages: Stages, model: TokenModel, case: ReferenceCase, engine: Engine
) -> Iterator[Comparison]:
    inputs = stages.inputs(model, case)
    yield from stages.before(model, case, inputs)
    decoded = _decode(stages, model, case, engine)
    yield from stages.after(model, case, inputs, decoded)
    yield from stages.compare_actions(model, case, list(decoded.tokens))


@torch.inference_mode()
def _decode(stages: Stages, model: TokenModel, case: ReferenceCase, engine: Engine) -> Decoded:
    """Decodes by the plain loop."""
    inputs = stages.inputs(model, case)
    prompt = model.prompt(inputs, model.features(inputs))
    sequence, said = engine.start(prompt)
    tokens, logits = said.greedy.tolist(), [said.logits[:1].clone()]
    most = stages.most(case)
    while not model.codec.finished(tokens) and len(tokens) != most:
        said = sequence.extend(tokens[-1])
        tokens += said.greedy.tolist()
        logits.append(said.logits[:1].clone())  # the next pass overwrites them
    return Decoded(tuple(tokens), torch.cat(logits))


def _exact(
    stages: Stages, checkpoint: str | Path, device: str, case: ReferenceCase, path: str
) -> NDArray[Any]:
    model = _load(checkpoint, device, "float32", stages.options(case))
    with full_precision():
        return _decode(stages, model, case, PATHS[path](model)).logits.float().cpu().numpy()

"""Families whose answers have any length, against the outputs of their upstream's code.

The stages are those of `verify`: prompt, pixels, vision, logits of each token, tokens, actions; and
what upstream fills, zeroes or reads one token off has to be refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heisd_ros.errors import AnswerError, ReferenceDataError
from heisd_ros.evaluation.comparison import (
    ACTION_TOLERANCE,
    Comparison,
    equal_or_tied,
    full_precision,
)
from heisd_ros.evaluation.decode_paths import Decoded, engine_of
from heisd_ros.evaluation.family_stages import STAGES, Stages
from heisd_ros.evaluation.reference import Reference, ReferenceCase
from heisd_ros.families.checkpoint import load_checkpoint
from heisd_ros.vla.engine import Engine
from heisd_ros.vla.token_model import TokenModel


def verify_answers(
    family: str,
    checkpoint: str | Path,
    folder: str | Path,
    path: str,
    device: str,
    dtypes: tuple[str, ...],
) -> Iterator[Comparison]:
    """Compares, case by case; arguments and errors are those of `verify.verify`."""
    if family not in STAGES:
        raise ReferenceDataError(f"references of {family} are not read; accepted: {sorted(STAGES)}")
    reference = Reference.load(folder)
    stages = STAGES[family](reference)
    for dtype in dtypes:
        loaded: tuple[dict[str, Any], TokenModel, Engine] | None = None
        for case in reference.cases:
            options = stages.options(case)
            if loaded is None or loaded[0] != options:
                model = _load(checkpoint, device, dtype, options)
                loaded = options, model, engine_of(model, path)
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
    yield from _actions(stages, model, case, list(decoded.tokens))


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
        return _decode(stages, model, case, engine_of(model, path)).logits.float().cpu().numpy()


def _actions(
    stages: Stages, model: TokenModel, case: ReferenceCase, tokens: list[int]
) -> Iterator[Comparison]:
    """The actions that upstream decodes; where it makes some up, that they are refused."""
    expected, stage = stages.actions(case), "actions"
    try:
        actions = model.codec.decode(tokens)
    except AnswerError as error:
        accepted = "refused" if expected is None else "decoded"
        yield Comparison(case.name, stage, f"refused: {error}", accepted, expected is None)
        return
    if expected is None:
        yield Comparison(case.name, stage, f"decoded to {actions.tolist()}", "refused", False)
        return
    if expected.shape != actions.shape:
        shapes = f"shape {actions.shape}", f"shape {expected.shape}"
        yield Comparison(case.name, stage, *shapes, False)
        return
    gap = float(np.abs(actions - expected).max(initial=0.0))
    accepted = f"<= {ACTION_TOLERANCE:.1e}"
    yield Comparison(case.name, stage, f"{gap:.1e}", accepted, gap <= ACTION_TOLERANCE)

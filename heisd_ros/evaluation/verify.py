"""Compares a checkpoint with the outputs of another implementation, stage by stage.

The comparisons follow the data: what the prompt became, the pixels, both towers, the projector,
the logits of each step, tokens, actions. So the first failure names the faulty stage.
Everything comes from the two folders; what the reference lacks is reported as not compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heisd_ros.decoding.perception import perceive
from heisd_ros.decoding.types import Observation
from heisd_ros.errors import ReferenceDataError
from heisd_ros.evaluation.comparison import (
    ACTION_TOLERANCE,
    LOGIT_TOLERANCE,
    Comparison,
    close,
    equal,
    equal_or_tied,
    full_precision,
)
from heisd_ros.evaluation.decode_paths import PATHS, Decoded, DecodePath
from heisd_ros.evaluation.reference import Reference, ReferenceCase
from heisd_ros.evaluation.verify_answers import verify_answers
from heisd_ros.families.checkpoint import family_of
from heisd_ros.families.openvla.action_tokens import ActionTokenizer
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.families.openvla.vla import VLA

SUMMARY_TOLERANCE = 1e-4
"""Of a channel's mean and deviation, whoever sums them, and over n or n - 1."""
_ARRAY_KEYS = {
    "pixel_values",
    "pixel_mean_std",
    "dino_patches",
    "siglip_patches",
    "vision_features",
    "projected",
    "action_logits",
    "logits",
}
_THINNED = re.compile(r"pixel_values_every(\d+)")


def verify(
    checkpoint: str | Path,
    reference: str | Path,
    *,
    path: str = "eager",
    device: str = "cpu",
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
) -> Iterator[Comparison]:
    """Compares, in the order of the data; whoever iterates may stop at the first failure.

    Args:
        checkpoint: folder of the model.
        reference: folder of ``reference.json``, ``reference.npz`` and the pictures.
        path: of `decoding.paths.PATHS`, that decodes.
        device: where the model runs.
        dtypes: ``"float32"`` compares every stage; ``"bfloat16"`` compares tokens.

    Raises:
        ReferenceDataError: the reference cannot be read, or the path is unknown.
        CheckpointError, DeviceMemoryError: the model cannot be loaded.
    """
    if path not in PATHS:
        raise ReferenceDataError(f"no decoding path {path!r}; there are {sorted(PATHS)}")
    family = family_of(checkpoint)
    if family != "openvla":
        yield from verify_answers(family, checkpoint, reference, path, device, dtypes)
        return
    decode, cases = PATHS[path], Reference.load(reference)
    for dtype in dtypes:
        vla = _load(checkpoint, device, dtype)
        if dtype == "float32":
            with full_precision():
                for case in cases.cases:
                    yield from _stages(vla, case, decode)
                yield from _another_image(vla, cases.cases[0], decode)
        else:
            for case in cases.cases:
                exact = partial(_exact_logits, checkpoint, device, case, decode)
                yield _low_precision_tokens(vla, case, decode, exact)
        del vla
    yield from _left_out(cases)


def _load(checkpoint: str | Path, device: str, dtype: str) -> VLA:
    """The model with any of its statistics: each case names its own."""
    return load_checkpoint(checkpoint, device, getattr(torch, dtype), any_statistics=True)


def _stages(vla: VLA, case: ReferenceCase, decode: DecodePath) -> Iterator[Comparison]:
    yield from _prompt(vla, case)
    yield from _pixels(vla, case)
    yield from _vision(vla, case)
    decoded = decode(vla, _observation(vla, case))
    yield from _logits(vla, case, decoded)
    yield from _actions(vla, case, decoded)


def _observation(vla: VLA, case: ReferenceCase) -> Observation:
    return Observation((case.image,), case.instruction(vla.config.prompt))


def _prompt(vla: VLA, case: ReferenceCase) -> Iterator[Comparison]:
    instruction = case.instruction(vla.config.prompt)
    ids = vla.prompts.encode(instruction)
    plain = vla.prompts.tokenizer.encode(vla.prompts.prompt(instruction))
    yield equal(case, "prompt", "prompt", vla.prompts.prompt(instruction))
    yield equal(case, "prompt's tokens", "tokens", plain.tokens)
    yield equal(case, "prompt ids", "input_ids", plain.ids)
    yield equal(case, "prompt ids, empty token", "input_ids_with_empty", ids)
    yield equal(case, "picture's height, width", "image_hw", list(case.image.shape[:2]))


def _pixels(vla: VLA, case: ReferenceCase) -> Iterator[Comparison]:
    pixels = vla.images([case.image])[0, 0].numpy()
    yield close(case, "pixel values", "pixel_values", pixels, 0.0)
    for key in sorted(case.arrays):
        match = _THINNED.fullmatch(key)
        if match:
            thin = pixels[:, :: int(match[1]), :: int(match[1])]
            yield close(case, f"pixel values, every {match[1]}th", key, thin, 0.0)
    flat = pixels.astype(np.float64).reshape(len(pixels), -1)
    summary = np.stack([flat.mean(axis=1), flat.std(axis=1)])
    yield close(case, "pixels' mean and deviation", "pixel_mean_std", summary, SUMMARY_TOLERANCE)


@torch.inference_mode()
def _vision(vla: VLA, case: ReferenceCase) -> Iterator[Comparison]:
    features = perceive(vla, _observation(vla, case)).features
    both = features[0].float().cpu().numpy()
    first = vla.config.towers[0].output_width
    for stage, key, array in (
        ("first tower (DINOv2)", "dino_patches", both[:, :first]),
        ("second tower (SigLIP)", "siglip_patches", both[:, first:]),
        ("both towers", "vision_features", both),
        ("projector", "projected", vla.model.project(features)[0].float().cpu().numpy()),
    ):
        yield close(case, stage, key, array, LOGIT_TOLERANCE, relative=True)


def _logits(vla: VLA, case: ReferenceCase, decoded: Decoded) -> Iterator[Comparison]:
    logits = decoded.logits.float().cpu().numpy()
    actions = _action_columns(vla, logits)
    yield close(case, "logits of the actions", "action_logits", actions, LOGIT_TOLERANCE)
    if logits.shape[-1] != len(vla.codec.action_ids):
        yield close(case, "logits of all ids", "logits", logits, LOGIT_TOLERANCE)


def _action_columns(vla: VLA, logits: NDArray[Any]) -> NDArray[Any]:
    own = logits.shape[-1] == len(vla.codec.action_ids)
    return logits if own else logits[:, vla.model.action_rows]


def _actions(vla: VLA, case: ReferenceCase, decoded: Decoded) -> Iterator[Comparison]:
    tokens = list(decoded.tokens)
    tokenizer = ActionTokenizer(vla.config.real_vocab_size)
    normalised = tokenizer.decode(tokens)
    yield equal(case, "tokens", "action_token_ids", tokens)
    yield equal(case, "bins", "action_bins", tokenizer.bins(tokens).tolist())
    yield close(case, "normalised action", "normalized_actions", normalised, ACTION_TOLERANCE)
    key = case.fields.get("unnorm_key")
    if key is None and len(vla.statistics) == 1:
        key = next(iter(vla.statistics))
    stage = f"action, statistics {key!r}"
    if key is not None and key not in vla.statistics:
        known = f"the checkpoint has {sorted(vla.statistics)}"
        yield Comparison(case.name, stage, "no such statistics", known, False)
    elif key is not None:
        action = vla.statistics[key].unnormalise(normalised)
        yield close(case, stage, "actions", action, ACTION_TOLERANCE)
    yield _by_formula(vla, case, normalised)


def _by_formula(vla: VLA, case: ReferenceCase, normalised: NDArray[np.float64]) -> Comparison:
    """The action under every statistics of the checkpoint, which a reference names but one of."""
    worst, gap = "", 0.0
    for name, statistics in vla.statistics.items():
        action = statistics.unnormalise(normalised)
        for got, x, low, high, scaled in zip(
            action, normalised, statistics.q01, statistics.q99, statistics.mask, strict=True
        ):
            difference = abs(got - (0.5 * (x + 1.0) * (high - low) + low if scaled else x))
            if not difference <= gap:
                worst, gap = f" ({name})", float(difference)
    stage = f"action by formula, {len(vla.statistics)} statistics"
    passed = gap <= ACTION_TOLERANCE
    return Comparison(case.name, stage, f"{gap:.1e}{worst}", f"<= {ACTION_TOLERANCE:.1e}", passed)


def _another_image(vla: VLA, case: ReferenceCase, decode: DecodePath) -> Iterator[Comparison]:
    """Upstream's code with newer libraries ignores the image without a word."""
    other = np.ascontiguousarray(255 - case.image[:, ::-1])
    instruction = case.instruction(vla.config.prompt)
    before, after = (
        decode(vla, Observation((image,), instruction)).logits[0].float()
        for image in (case.image, other)
    )
    gap = float((before - after).abs().max())
    passed = gap > 10 * LOGIT_TOLERANCE
    accepted = f"> {10 * LOGIT_TOLERANCE:g}"
    yield Comparison(case.name, "another image's logits", f"differ by {gap:.2g}", accepted, passed)


def _low_precision_tokens(
    vla: VLA, case: ReferenceCase, decode: DecodePath, exact: Callable[[], NDArray[Any]]
) -> Comparison:
    stage, key = "tokens in bfloat16", "bf16_action_token_ids"
    if key not in case.fields:
        return Comparison(case.name, stage, "not in the reference", "", None)
    tokens = decode(vla, _observation(vla, case)).tokens
    return equal_or_tied(case, stage, case.fields[key], tokens, exact)


def _exact_logits(
    checkpoint: str | Path, device: str, case: ReferenceCase, decode: DecodePath
) -> NDArray[Any]:
    vla = _load(checkpoint, device, "float32")
    with full_precision():
        return decode(vla, _observation(vla, case)).logits.float().cpu().numpy()


def _left_out(reference: Reference) -> Iterator[Comparison]:
    """Names the arrays that are not compared."""
    unknown = [
        f"{case.name}__{key}"
        for case in reference.cases
        for key in case.arrays
        if key not in _ARRAY_KEYS and not _THINNED.fullmatch(key)
    ]
    for name in sorted([*unknown, *reference.orphans]):
        yield Comparison("", f"array {name}", "not compared: unknown", "", None)

"""What of OpenVLA is compared with the outputs of another implementation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heisd_ros.families.comparison import (
    ACTION_TOLERANCE,
    LOGIT_TOLERANCE,
    Comparison,
    close,
    equal,
)
from heisd_ros.families.reference import ReferenceCase
from heisd_ros.families.stages import Decoded, Stages

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


class FamilyStages(Stages):
    """Compares the stages of OpenVLA; a case may name its own statistics."""

    def options(self, case: ReferenceCase) -> dict[str, Any]:  # noqa: D102
        return {"any_statistics": True}

    def inputs(self, model: Any, case: ReferenceCase) -> Any:  # noqa: D102
        return model.encode([case.image], case.instruction(model.config.prompt))

    def before(self, model: Any, case: ReferenceCase, inputs: Any) -> Iterator[Comparison]:  # noqa: D102
        prompts, instruction = model.prompts, case.instruction(model.config.prompt)
        plain = prompts.tokenizer.encode(prompts.prompt(instruction))
        yield equal(case, "prompt", "prompt", prompts.prompt(instruction))
        yield equal(case, "prompt's tokens", "tokens", plain.tokens)
        yield equal(case, "prompt ids", "input_ids", plain.ids)
        ids = inputs.ids[0].tolist()
        yield equal(case, "prompt ids, empty token", "input_ids_with_empty", ids)
        yield equal(case, "picture's height, width", "image_hw", list(case.image.shape[:2]))
        yield from _pixels(case, inputs.pixels[0, 0].float().cpu().numpy())
        features = model.features(inputs)
        both = features[0].float().cpu().numpy()
        first = model.config.towers[0].output_width
        for stage, key, array in (
            ("first tower (DINOv2)", "dino_patches", both[:, :first]),
            ("second tower (SigLIP)", "siglip_patches", both[:, first:]),
            ("both towers", "vision_features", both),
            ("projector", "projected", model.model.project(features)[0].float().cpu().numpy()),
        ):
            yield close(case, stage, key, array, LOGIT_TOLERANCE, relative=True)

    def after(  # noqa: D102
        self, model: Any, case: ReferenceCase, inputs: Any, decoded: Decoded
    ) -> Iterator[Comparison]:
        logits = decoded.logits.float().cpu().numpy()
        actions = logits[:, model.model.action_rows]
        yield close(case, "logits of the actions", "action_logits", actions, LOGIT_TOLERANCE)
        yield close(case, "logits of all ids", "logits", logits, LOGIT_TOLERANCE)
        tokens = list(decoded.tokens)
        yield equal(case, "tokens", "action_token_ids", tokens)
        bins = model.codec.tokenizer.bins(tokens).tolist()
        yield equal(case, "bins", "action_bins", bins)
        if case is self.reference.cases[0]:
            yield _another_image(model, case, logits[0])

    def compare_actions(  # noqa: D102
        self, model: Any, case: ReferenceCase, tokens: list[int]
    ) -> Iterator[Comparison]:
        normalised = model.codec.tokenizer.decode(tokens)
        yield close(case, "normalised action", "normalized_actions", normalised, ACTION_TOLERANCE)
        key = case.fields.get("unnorm_key")
        if key is None and len(model.statistics) == 1:
            key = next(iter(model.statistics))
        stage = f"action, statistics {key!r}"
        if key is not None and key not in model.statistics:
            known = f"the checkpoint has {sorted(model.statistics)}"
            yield Comparison(case.name, stage, "no such statistics", known, False)
        elif key is not None:
            action = model.statistics[key].unnormalise(normalised)
            yield close(case, stage, "actions", action, ACTION_TOLERANCE)
        yield _by_formula(model, case, normalised)

    def low_precision(self, case: ReferenceCase) -> list[int] | None:  # noqa: D102
        return case.fields.get("bf16_action_token_ids")

    def left_out(self) -> Iterator[Comparison]:  # noqa: D102
        unknown = [
            f"{case.name}__{key}"
            for case in self.reference.cases
            for key in case.arrays
            if key not in _ARRAY_KEYS and not _THINNED.fullmatch(key)
        ]
        for name in sorted([*unknown, *self.reference.orphans]):
            yield Comparison("", f"array {name}", "not compared: unknown", "", None)


def _pixels(case: ReferenceCase, pixels: NDArray[Any]) -> Iterator[Comparison]:
    yield close(case, "pixel values", "pixel_values", pixels, 0.0)
    for key in sorted(case.arrays):
        if match := _THINNED.fullmatch(key):
            thin = pixels[:, :: int(match[1]), :: int(match[1])]
            yield close(case, f"pixel values, every {match[1]}th", key, thin, 0.0)
    flat = pixels.astype(np.float64).reshape(len(pixels), -1)
    summary = np.stack([flat.mean(axis=1), flat.std(axis=1)])
    yield close(case, "pixels' mean and deviation", "pixel_mean_std", summary, SUMMARY_TOLERANCE)


def _by_formula(model: Any, case: ReferenceCase, normalised: NDArray[np.float64]) -> Comparison:
    """The action under every statistics of the checkpoint, which a reference names but one of."""
    worst, gap = "", 0.0
    for name, statistics in model.statistics.items():
        action = statistics.unnormalise(normalised)
        for got, x, low, high, scaled in zip(
            action, normalised, statistics.q01, statistics.q99, statistics.mask, strict=True
        ):
            difference = abs(got - (0.5 * (x + 1.0) * (high - low) + low if scaled else x))
            if not difference <= gap:
                worst, gap = f" ({name})", float(difference)
    stage = f"action by formula, {len(model.statistics)} statistics"
    passed = gap <= ACTION_TOLERANCE
    return Comparison(case.name, stage, f"{gap:.1e}{worst}", f"<= {ACTION_TOLERANCE:.1e}", passed)


def _another_image(model: Any, case: ReferenceCase, logits: NDArray[Any]) -> Comparison:
    """Upstream's code with newer libraries ignores the image without a word."""
    other = np.ascontiguousarray(255 - case.image[:, ::-1])
    inputs = model.encode([other], case.instruction(model.config.prompt))
    _, said = model.engine.start(model.prompt(inputs, model.features(inputs)))
    gap = float((said.logits[0].float().cpu() - torch.from_numpy(logits)).abs().max())
    passed = gap > 10 * LOGIT_TOLERANCE
    accepted = f"> {10 * LOGIT_TOLERANCE:g}"
    return Comparison(case.name, "another image's logits", f"differ by {gap:.2g}", accepted, passed)

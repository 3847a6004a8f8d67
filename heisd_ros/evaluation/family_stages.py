"""The layout of each family's reference, and what of a model is compared with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from heisd_ros.errors import ReferenceDataError
from heisd_ros.evaluation.comparison import LOGIT_TOLERANCE, Comparison, close, equal
from heisd_ros.evaluation.decode_paths import Decoded
from heisd_ros.evaluation.reference import Reference, ReferenceCase

PIXEL_TOLERANCE = 3e-7
"""Of bilinear pixels in [-1, 1]: torch rounds their last bit by its number of threads."""


class Stages(Protocol):
    """What is compared of one family.

    Args:
        reference: all of it.
    """

    def __init__(self, reference: Reference) -> None: ...

    def options(self, case: ReferenceCase) -> dict[str, Any]:
        """What a case asks of `load_checkpoint`."""
        ...

    def inputs(self, model: Any, case: ReferenceCase) -> Any:
        """A case's observation, encoded."""
        ...

    def most(self, case: ReferenceCase) -> int | None:
        """Tokens after which upstream was stopped; None: where the model's files say."""
        ...

    def before(self, model: Any, case: ReferenceCase, inputs: Any) -> Iterator[Comparison]:
        """What comes before the language model."""
        ...

    def after(
        self, model: Any, case: ReferenceCase, inputs: Any, decoded: Decoded
    ) -> Iterator[Comparison]:
        """Compares logits and tokens."""
        ...

    def actions(self, case: ReferenceCase) -> NDArray[np.float64] | None:
        """Actions [H, D] of a case; None where the answer has to be refused."""
        ...

    def low_precision(self, case: ReferenceCase) -> list[int] | None:
        """Tokens in bfloat16; None where the reference does not have them."""
        ...


def _number(case: ReferenceCase, key: str) -> Any:
    if key not in case.fields:
        raise ReferenceDataError(f"case {case.name!r} has no {key!r}")
    return case.fields[key]


def _thinned(case: ReferenceCase, pixels: NDArray[Any]) -> Iterator[Comparison]:
    """Pixels, whole or every n-th along the last two axes, as far as the reference has them."""
    for key in sorted(case.arrays):
        if key == "pixel_values":
            yield close(case, "pixels", key, pixels, 0.0)
        elif key.startswith("pixel_values_every"):
            step = int(key.removeprefix("pixel_values_every"))
            thin = pixels[..., ::step, ::step]
            yield close(case, f"pixels, every {step}th", key, thin, 0.0)


class Pi0FastStages(Stages):
    """Compares the stages of LeRobot's pi0-FAST."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def options(self, case: ReferenceCase) -> dict[str, Any]:  # noqa: D102
        return {}

    def inputs(self, model: Any, case: ReferenceCase) -> Any:  # noqa: D102
        if "state" not in case.arrays:
            raise ReferenceDataError(f"case {case.name!r} has no array 'state'")
        images = [case.pictures.get(camera) for camera in model.config.cameras]
        return model.encode(images, _number(case, "task"), case.arrays["state"])

    def most(self, case: ReferenceCase) -> int | None:  # noqa: D102
        return None

    def before(self, model: Any, case: ReferenceCase, inputs: Any) -> Iterator[Comparison]:  # noqa: D102
        ids, mask = (case.arrays.get(f"prompt_{name}") for name in ("ids", "mask"))
        if ids is not None and mask is not None:
            fields = {**case.fields, "prompt_ids": ids[mask].tolist()}
            whole = ReferenceCase(case.name, case.image, fields, case.arrays)
            yield equal(whole, "prompt ids", "prompt_ids", inputs.ids[0, :-1].tolist())
        state = model.states.forward(case.arrays["state"])
        yield close(case, "state", "state_normalised", state, 0.0)
        shared = self._reference.shared
        named = [case.fields["cameras"][camera] for camera in model.config.cameras
                 if camera in case.pictures]  # fmt: skip
        tokens = model.network.model.multi_modal_projector(model.features(inputs)[0])
        parts = tokens.float().unflatten(0, (len(named), -1)).cpu().numpy()
        for name, pixels, part in zip(named, inputs.pixels.cpu().numpy(), parts, strict=True):
            own = {
                "pixels": shared.get(f"pixels/{name}"),
                "tokens": shared.get(f"image_emb/{name}"),
            }
            given = {key: array for key, array in own.items() if array is not None}
            picture = ReferenceCase(case.name, case.image, {}, given)
            yield close(picture, f"pixels of {name}", "pixels", pixels, PIXEL_TOLERANCE)
            yield close(picture, f"visual tokens of {name}", "tokens", part, LOGIT_TOLERANCE)
        columns = model.prompt(inputs, model.features(inputs)).columns[0].float().cpu().numpy()
        yield close(case, "columns", "prefix_embs", columns, LOGIT_TOLERANCE)
        size = case.fields.get("prefix_valid")
        if size is not None:
            yield equal(case, "number of columns", "prefix_valid", len(columns))

    def after(  # noqa: D102
        self, model: Any, case: ReferenceCase, inputs: Any, decoded: Decoded
    ) -> Iterator[Comparison]:
        rows = len(case.arrays.get("logits", ()))
        logits = decoded.logits[:rows].float().cpu().numpy()
        yield close(case, "logits", "logits", logits, LOGIT_TOLERANCE)
        yield equal(case, "tokens", "generated_ids", list(decoded.tokens))

    def actions(self, case: ReferenceCase) -> NDArray[np.float64] | None:  # noqa: D102
        fields = case.fields
        sound = (
            fields.get("stopped_by") == "bar"
            and fields.get("n_coefficients") == fields.get("n_expected")
            and not fields.get("replacement_characters")
            and not fields.get("bpe_error")
            and not fields.get("upstream_error")
        )
        return np.asarray(case.arrays["actions"], np.float64) if sound else None

    def low_precision(self, case: ReferenceCase) -> list[int] | None:  # noqa: D102
        stored = self._reference.content.get("bfloat16", {}).get("cases", {}).get(case.name, {})
        return _number(case, "generated_ids") if stored.get("same_ids") else None


class NoraStages(Stages):
    """Compares the stages of NORA."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def options(self, case: ReferenceCase) -> dict[str, Any]:  # noqa: D102
        from heisd_ros.families.nora.checkpoint import NoraSettings

        limit = case.fields.get("generate_kwargs", {}).get("max_new_tokens")
        return {
            "statistics_key": _number(case, "unnorm_key"),
            "settings": NoraSettings(_number(case, "time_horizon"), limit),
        }

    def inputs(self, model: Any, case: ReferenceCase) -> Any:  # noqa: D102
        return model.encode([case.image], _number(case, "instruction"))

    def most(self, case: ReferenceCase) -> int | None:  # noqa: D102
        return None

    def before(self, model: Any, case: ReferenceCase, inputs: Any) -> Iterator[Comparison]:  # noqa: D102
        from heisd_ros.families.nora.preprocessing import chat_text

        text = chat_text(_number(case, "instruction"))
        yield equal(case, "chat", "chat_text", text)
        yield equal(case, "prompt ids", "input_ids", inputs.ids)
        yield from _thinned(case, inputs.patches.float().cpu().numpy())
        features = model.features(inputs)
        tokens = features[0].float().cpu().numpy()
        yield close(case, "visual tokens", "image_embeds", tokens, LOGIT_TOLERANCE)
        prompt = model.prompt(inputs, features)
        yield equal(case, "positions", "position_ids", prompt.positions[:, 0].tolist())
        yield equal(case, "rope delta", "rope_delta", prompt.next_position - len(inputs.ids))

    def after(  # noqa: D102
        self, model: Any, case: ReferenceCase, inputs: Any, decoded: Decoded
    ) -> Iterator[Comparison]:
        ids = self._reference.shared.get("logit_ids", np.empty(0, int))
        scores = decoded.logits[:, ids].float().cpu().numpy()
        stage = "scores after the penalty"
        yield close(case, stage, "scores_after_penalty", scores, LOGIT_TOLERANCE)
        yield equal(case, "tokens", "generated_ids", list(decoded.tokens))
        # The same tokens without the penalty: what upstream's network says.
        prompt = model.prompt(inputs, model.features(inputs))
        sequence, said = model.engine.without_penalty().start(prompt)
        raw = [said.logits[0].clone()]
        for token in decoded.tokens[:-1]:
            raw.append(sequence.extend(token).logits[0].clone())
        logits = torch.stack(raw).float().cpu().numpy()
        yield close(case, "logits", "raw_logits", logits[:, ids], LOGIT_TOLERANCE)
        yield close(case, "logits of all ids", "full_logits_step0", logits[0], LOGIT_TOLERANCE)

    def actions(self, case: ReferenceCase) -> NDArray[np.float64] | None:  # noqa: D102
        sound = case.fields.get("ends_with_eos") and not case.fields.get("upstream_printed")
        return np.asarray(_number(case, "actions"), np.float64) if sound else None

    def low_precision(self, case: ReferenceCase) -> list[int] | None:  # noqa: D102
        return None


class EcotStages(Stages):
    """Compares the stages of ECoT."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def options(self, case: ReferenceCase) -> dict[str, Any]:  # noqa: D102
        return {"statistics_key": _number(case, "unnorm_key")}

    def inputs(self, model: Any, case: ReferenceCase) -> Any:  # noqa: D102
        return model.encode([case.image], _number(case, "instruction"))

    def most(self, case: ReferenceCase) -> int | None:  # noqa: D102
        limit: int | None = case.fields.get("max_new_tokens")
        return limit

    def before(self, model: Any, case: ReferenceCase, inputs: Any) -> Iterator[Comparison]:  # noqa: D102
        yield equal(case, "prompt ids", "input_ids", inputs.ids[0].tolist())
        yield from _thinned(case, inputs.pixels[0].float().cpu().numpy())
        features = model.features(inputs)
        tower = features[0].float().cpu().numpy()
        yield close(case, "tower (SigLIP)", "tower_siglip", tower, LOGIT_TOLERANCE, relative=True)
        tokens = model.model.projector(features)[0].float().cpu().numpy()
        yield close(case, "projector", "projector", tokens, LOGIT_TOLERANCE, relative=True)

    def after(  # noqa: D102
        self, model: Any, case: ReferenceCase, inputs: Any, decoded: Decoded
    ) -> Iterator[Comparison]:
        logits = decoded.logits.float().cpu()
        said = logits.log_softmax(-1)[range(len(decoded.tokens)), list(decoded.tokens)].numpy()
        best = logits.topk(2, dim=-1).values.numpy()
        yield close(case, "log-probabilities", "token_logprob", said, LOGIT_TOLERANCE)
        yield close(case, "margins", "top1_margin", best[:, 0] - best[:, 1], 2 * LOGIT_TOLERANCE)
        first = logits[0].numpy()
        yield close(case, "logits of all ids", "full_logits_step0", first, LOGIT_TOLERANCE)
        ids = case.arrays.get("step_logit_ids_text")
        if ids is not None:
            text = logits[:, ids].numpy()
            yield close(case, "logits of text", "step_logits_cols", text, LOGIT_TOLERANCE)
        rows = model.codec.action_ids
        last = logits[-1 - model.codec.dimensions :, rows.start : rows.stop].numpy()
        yield close(case, "logits of actions", "step_logits_action", last, LOGIT_TOLERANCE)
        yield equal(case, "tokens", "generated_ids", list(decoded.tokens))

    def actions(self, case: ReferenceCase) -> NDArray[np.float64] | None:  # noqa: D102
        sound = case.fields.get("ends_with_eos") and case.fields.get("action_token_ids")
        return np.asarray([_number(case, "actions_eos_stripped")], np.float64) if sound else None

    def low_precision(self, case: ReferenceCase) -> list[int] | None:  # noqa: D102
        return _number(case, "generated_ids") if case.fields.get("bf16_same_ids") else None


STAGES: Mapping[str, type[Stages]] = {
    "pi0fast": Pi0FastStages,
    "nora": NoraStages,
    "ecot": EcotStages,
}
"""By the folder of the family."""

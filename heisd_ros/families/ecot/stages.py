"""What of ECoT is compared with the outputs of its upstream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.families.comparison import LOGIT_TOLERANCE, Comparison, close, equal
from heisd_ros.families.reference import ReferenceCase
from heisd_ros.families.stages import Decoded, Stages, given, thinned


class FamilyStages(Stages):
    """Compares the stages of ECoT."""

    def options(self, case: ReferenceCase) -> dict[str, Any]:  # noqa: D102
        return {"statistics_key": given(case, "unnorm_key")}

    def inputs(self, model: Any, case: ReferenceCase) -> Any:  # noqa: D102
        return model.encode([case.image], given(case, "instruction"))

    def most(self, case: ReferenceCase) -> int | None:  # noqa: D102
        limit: int | None = case.fields.get("max_new_tokens")
        return limit

    def before(self, model: Any, case: ReferenceCase, inputs: Any) -> Iterator[Comparison]:  # noqa: D102
        yield equal(case, "prompt ids", "input_ids", inputs.ids[0].tolist())
        yield from thinned(case, inputs.pixels[0].float().cpu().numpy())
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
        return np.asarray([given(case, "actions_eos_stripped")], np.float64) if sound else None

    def low_precision(self, case: ReferenceCase) -> list[int] | None:  # noqa: D102
        return given(case, "generated_ids") if case.fields.get("bf16_same_ids") else None

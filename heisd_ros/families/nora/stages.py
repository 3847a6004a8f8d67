"""What of NORA is compared with the outputs of its upstream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heisd_ros.families.comparison import LOGIT_TOLERANCE, Comparison, close, equal
from heisd_ros.families.nora.checkpoint import NoraSettings
from heisd_ros.families.nora.preprocessing import chat_text
from heisd_ros.families.reference import ReferenceCase
from heisd_ros.families.stages import Decoded, Stages, given, thinned


class FamilyStages(Stages):
    """Compares the stages of NORA."""

    def options(self, case: ReferenceCase) -> dict[str, Any]:  # noqa: D102
        limit = case.fields.get("generate_kwargs", {}).get("max_new_tokens")
        return {
            "statistics_key": given(case, "unnorm_key"),
            "settings": NoraSettings(given(case, "time_horizon"), limit),
        }

    def inputs(self, model: Any, case: ReferenceCase) -> Any:  # noqa: D102
        return model.encode([case.image], given(case, "instruction"))

    def before(self, model: Any, case: ReferenceCase, inputs: Any) -> Iterator[Comparison]:  # noqa: D102
        text = chat_text(given(case, "instruction"))
        yield equal(case, "chat", "chat_text", text)
        yield equal(case, "prompt ids", "input_ids", inputs.ids)
        yield from thinned(case, inputs.patches.float().cpu().numpy())
        features = model.features(inputs)
        tokens = features[0].float().cpu().numpy()
        yield close(case, "visual tokens", "image_embeds", tokens, LOGIT_TOLERANCE)
        prompt = model.prompt(inputs, features)
        yield equal(case, "positions", "position_ids", prompt.positions[:, 0].tolist())
        yield equal(case, "rope delta", "rope_delta", prompt.next_position - len(inputs.ids))

    def after(  # noqa: D102
        self, model: Any, case: ReferenceCase, inputs: Any, decoded: Decoded
    ) -> Iterator[Comparison]:
        ids = self.reference.shared.get("logit_ids", np.empty(0, int))
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
        return np.asarray(given(case, "actions"), np.float64) if sound else None

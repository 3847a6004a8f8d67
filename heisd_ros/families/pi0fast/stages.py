"""What of pi0-FAST is compared with the outputs of LeRobot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import ReferenceDataError
from heisd_ros.families.comparison import LOGIT_TOLERANCE, Comparison, close, equal
from heisd_ros.families.reference import ReferenceCase
from heisd_ros.families.stages import PIXEL_TOLERANCE, Decoded, Stages, given


class FamilyStages(Stages):
    """Compares the stages of LeRobot's pi0-FAST."""

    def inputs(self, model: Any, case: ReferenceCase) -> Any:  # noqa: D102
        if "state" not in case.arrays:
            raise ReferenceDataError(f"case {case.name!r} has no array 'state'")
        images = [case.pictures.get(camera) for camera in model.config.cameras]
        return model.encode(images, given(case, "task"), case.arrays["state"])

    def before(self, model: Any, case: ReferenceCase, inputs: Any) -> Iterator[Comparison]:  # noqa: D102
        ids, mask = (case.arrays.get(f"prompt_{name}") for name in ("ids", "mask"))
        if ids is not None and mask is not None:
            fields = {**case.fields, "prompt_ids": ids[mask].tolist()}
            whole = ReferenceCase(case.name, case.image, fields, case.arrays)
            yield equal(whole, "prompt ids", "prompt_ids", inputs.ids[0, :-1].tolist())
        state = model.states.forward(case.arrays["state"])
        yield close(case, "state", "state_normalised", state, 0.0)
        shared = self.reference.shared
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
        stored = self.reference.content.get("bfloat16", {}).get("cases", {}).get(case.name, {})
        return given(case, "generated_ids") if stored.get("same_ids") else None

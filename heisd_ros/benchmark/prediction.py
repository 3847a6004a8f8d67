"""Predicts a closed loop from measured step times and measured acceptance.

An evaluation (`heisd eval`) records the source and the passes of each step; a benchmark
says what such a step takes at another model's size. Together they give a prediction, which
assumes that the other model accepts as often as the evaluated one; that is not measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heisd_ros.decoding.types import Source
from heisd_ros.errors import BenchmarkError


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds, medians.

    Attributes:
        eager: a step of the eager loop.
        plain: of the optimised one.
        seen: vision and projector.
        search: of the database.
        prefill: of the prompt.
        verifying: of the prompt with a draft in it.
        token: a pass over one token.
        verified: a pass over one token with drafts behind it.
        draft: of the drafter.
        skipped: a skipped step.
    """

    eager: float
    plain: float
    seen: float
    search: float
    prefill: float
    verifying: float
    token: float
    verified: float
    draft: float
    skipped: float

    def step(self, source: str, passes: int, mode: Mapping[str, Any]) -> float:
        """Returns the time of a step of an evaluation, ms.

        Args:
            source: `Source.letter` of the step.
            passes: through the language model.
            mode: settings of the mode; which passes carried a draft follows from them.
        """
        if source == Source.SKIP.letter:
            return self.skipped
        if source == Source.AUTOREGRESSIVE.letter:
            return self.plain
        later = passes - 1
        if source == Source.DRAFTER.letter:
            first = self.verifying if mode.get("drafter", {}).get("last") else self.prefill
            # The drafter drafts what the prefill left open.
            first += self.draft if later else 0.0
            drafted = later if mode["redraft"] else min(later, 1)
        else:
            in_prefill = bool(mode["one_pass"])
            first = self.verifying if in_prefill else self.prefill
            first += self.search if source == Source.RETRIEVAL.letter else 0.0
            drafted = later if mode["redraft"] else min(later, 0 if in_prefill else 1)
        return self.seen + first + drafted * self.verified + (later - drafted) * self.token


def predict(evaluation: Path, times: StepTimes) -> dict[str, Any]:
    """Predicts step times and speedups in closed loop, for each mode of an evaluation.

    Args:
        evaluation: JSON of `heisd eval`.
        times: of the model that is predicted for.

    Returns:
        `note`, and `modes`: by name `mean_ms`, `p50_ms`, and the speedup of the means over the
        eager loop (`over_eager`) and over the optimised one (`over_optimised`).

    Raises:
        BenchmarkError: the file is not such an evaluation.
    """
    data = read_evaluation(evaluation)
    modes = {
        name: _summary(
            [
                times.step(source, passes, mode["settings"])
                for row in data["episodes"]
                if row["mode"] == name
                for source, passes in zip(row["source"], row["passes"], strict=True)
            ],
            times,
        )
        for name, mode in data["modes"].items()
    }
    note = (
        "Predicted, not measured: this benchmark's step times with the sources and passes of "
        f"{sum(row['steps'] for row in data['episodes'])} steps evaluated on the model "
        f"{data['model'][:12]}, suite {data['suite']}. It holds where another model accepts and "
        "skips as often. A step of the plain loop has a pass for each token."
    )
    return {"note": note, "modes": modes}


def read_evaluation(path: Path) -> dict[str, Any]:
    """Reads the JSON of `heisd eval`, and checks what a prediction needs.

    Raises:
        BenchmarkError: the file is not such an evaluation.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for mode in data["modes"].values():
            _ = mode["settings"]["one_pass"], mode["settings"]["redraft"]
        for row in data["episodes"]:
            _ = row["mode"], row["steps"], len(row["source"]) - len(row["passes"])
        _ = data["model"][:12], data["suite"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchmarkError(
            f"{path} is no evaluation ({type(error).__name__}: {error}); "
            "the JSON of `heisd eval` is needed"
        ) from error
    return data


def _summary(steps: list[float], times: StepTimes) -> dict[str, float] | None:
    if not steps:
        return None
    mean, median = sum(steps) / len(steps), sorted(steps)[len(steps) // 2]
    return {
        "mean_ms": round(mean, 3),
        "p50_ms": round(median, 3),
        "over_eager": round(times.eager / mean, 3),
        "over_optimised": round(times.plain / mean, 3),
    }

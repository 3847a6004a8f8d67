"""Time of the passes of other model families: random weights at the shapes of published models.

What an answer costs follows from its passes: the plain loop takes one for each token, an accepted
draft saves as many as it has tokens. On a machine without room or time for all layers, two depths
are measured, and each pass is extrapolated along a straight line.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from heisd_ros.benchmark.decode import Settings, device_name
from heisd_ros.benchmark.machine import busy, peak_memory_gib
from heisd_ros.benchmark.timing import WARM_UPS, Case, measure
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.errors import BenchmarkError
from heisd_ros.families.shapes import Passes, Published

DRAFT = 16
"""Tokens of the draft that a pass verifies."""
ACCEPTED = (2, 4, 8)
"""Tokens that a pass gains, for which the time of an answer is computed."""
NOTES = (
    "Weights are random: what passes cost is measured, not what they accept.",
    "An answer is vision, prefill and its passes; a pass that verifies a draft has one token and "
    f"{DRAFT} drafted ones.",
)


@torch.inference_mode()
def run(
    whole: Published, settings: Settings, layers: int = 0, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measures the passes of a family.

    Args:
        whole: The published model, which `Settings.shape` names.
        settings: Device, number format and rounds.
        layers: Layers of the decoder; twice as many are measured too, and all are extrapolated from
            both. 0: all.
        say: Called with progress messages.

    Returns:
        The JSON's content.

    Raises:
        BenchmarkError: Half the layers or more are asked for, an option is of other shapes, or a
            pass over more layers took less time.
    """
    if settings.compiler or settings.int8 or settings.evaluation:
        raise BenchmarkError(
            f"--compile, --int8 and --from-eval are not for the shape {settings.shape}"
        )
    columns = 0
    if not 0 <= 2 * layers < whole.layers:
        raise BenchmarkError(f"{layers} layers; accepted: 0 (all) to {(whole.layers - 1) // 2}")
    depths = (layers, 2 * layers) if layers else (whole.layers,)
    measured = {}
    for depth in depths:
        say(f"{depth} of {whole.layers} layers")
        stages = whole.make(depth, whole.tokens, settings.device, settings.dtype)
        columns = len(stages.prompt.columns[0])
        measured[depth] = _passes(stages, settings)
        del stages
        gc.collect()
    ms = measured[depths[-1]]
    if layers:
        ms = _extrapolated(measured, layers, whole.layers)
    return {
        "shape": settings.shape,
        "device": device_name(settings.device),
        "dtype": str(settings.dtype).removeprefix("torch."),
        "weights": "random",
        "layers": whole.layers,
        "measured_layers": list(depths),
        "prompt_columns": columns,
        "tokens": whole.tokens,
        "busy": busy(),
        "peak_memory_gib": peak_memory_gib(settings.device),
        "torch": torch.__version__,
        "measured_ms": {str(depth): _rounded(own) for depth, own in measured.items()},
        "ms": _rounded(ms),
        "answer_ms": _rounded(_answers(ms, whole.tokens)),
        "notes": list(NOTES),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """Formats a result as lines of text."""
    depths = " and ".join(map(str, result["measured_layers"]))
    more = "" if len(result["measured_layers"]) == 1 else ", extrapolated"
    return [
        f"{result['device']}; {result['shape']}: random weights, {result['dtype']}; {depths} of "
        f"{result['layers']} layers{more}; {result['prompt_columns']} columns; {result['busy']}",
        *(f"{name:42s}{value:12.2f} ms" for name, value in result["ms"].items()),
        *(f"{name:42s}{value:12.2f} ms" for name, value in result["answer_ms"].items()),
        *result["notes"],
    ]


def _passes(stages: Passes, settings: Settings) -> dict[str, float]:
    """Returns the median time of each part, ms."""
    chain = DraftTree.from_chains([range(1, DRAFT + 1)])
    room = 2 * (settings.rounds + WARM_UPS) + DRAFT
    sequence, _ = stages.engine.start(stages.prompt, None, room)

    def verify() -> None:
        sequence.extend(1, chain)
        sequence.keep([])

    cases = [
        Case("vision", stages.vision, step=False),
        Case("prefill", lambda: stages.engine.start(stages.prompt), step=False),
        Case("prefill with a draft", lambda: stages.engine.start(stages.prompt, chain), step=False),
    ]
    times = measure(cases, settings.device, settings.rounds, settings.clock)
    # Each pass adds a column, so both kinds take turns on one sequence.
    passes = [
        Case("one token", lambda: sequence.extend(1), step=False),
        Case("one token with a draft", verify, step=False),
    ]
    times |= measure(passes, settings.device, settings.rounds, settings.clock)
    return {name: float(np.median(values)) for name, values in times.items()}


def _extrapolated(
    measured: dict[int, dict[str, float]], layers: int, all_layers: int
) -> dict[str, float]:
    """Continues each pass along a straight line; vision has no layers of the decoder."""
    few, more = measured[layers], measured[2 * layers]
    ms = {"vision": (few["vision"] + more["vision"]) / 2.0}
    for name in few.keys() - ms:
        growth = more[name] - few[name]
        if growth <= 0.0:
            raise BenchmarkError(
                f"{name}: {few[name]:.1f} ms with {layers} layers, {more[name]:.1f} ms with "
                f"{2 * layers}, which is noise; ask for more layers, on an idle machine"
            )
        ms[name] = more[name] + growth * (all_layers / layers - 2.0)
    return {name: ms[name] for name in few}


def _answers(ms: dict[str, float], tokens: int) -> dict[str, float]:
    """Returns the time of an answer by the plain loop and with drafts, ms."""
    begin = ms["vision"] + ms["prefill"]
    found = {f"answer of {tokens} tokens, plain loop": begin + (tokens - 1) * ms["one token"]}
    for gained in ACCEPTED:
        passes = -(-tokens // gained) - 1
        found[f"answer, {gained} tokens a pass"] = (
            ms["vision"] + ms["prefill with a draft"] + passes * ms["one token with a draft"]
        )
    return found


def _rounded(ms: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in ms.items()}
